/* Reading files, arguments and standard input. */
#include "tests/unit/server/config_fixture.h"

TestSuite(config_file, .init = start_config, .fini = finish_config);

Test(config_file, file_syntax) {
    cr_assert_eq(load_text_file("# comment\n"
                                "\r\n"
                                "   PORT 7001  \r\n"
                                "bind 10.0.0.1 \"::1\"\n"
                                "requirepass \"a b\\x41\\\"\"\n"
                                "unixsocket '/tmp/it''s'\n"),
                 -1, "text behind a closing quote");
    cr_assert_eq(load_text_file("# comment\n"
                                "\r\n"
                                "   PORT 7001  \r\n"
                                "bind 10.0.0.1 \"::1\"\n"
                                "requirepass \"a b\\x41\\\"\"\n"
                                "unixsocket '/tmp/it\\'s'\n"
                                "unixsocketperm 755\n"
                                "client-output-buffer-limit \"pubsub 1 2 3\"\n"
                                "lua-replicate-commands yes\n"
                                "loadmodule /m.so a b\n"
                                "m.option x y\n"
                                "user alice on >pw ~*\n"
                                "rename-command CONFIG \"\"\n"
                                "maxmemory 1gb"),
                 0, "%s", error);
    const struct config *config = config_current();
    cr_assert_eq(config->port, 7001);
    cr_assert_eq(config->bind.count, 2);
    cr_assert_str_eq(config->bind.address[1], "::1");
    cr_assert_str_eq(config->requirepass, "a bA\"");
    cr_assert_str_eq(config->unixsocket, "/tmp/it's");
    cr_assert_eq(config->unixsocketperm, 0755);
    cr_assert_str_eq(get("unixsocketperm"), "755");
    cr_assert_eq(config->client_output_buffer_limit.of[CONFIG_CLIENT_PUBSUB].soft_seconds, 3);
    cr_assert_eq(config->maxmemory, 1 << 30);
    cr_assert_eq(config->modules.count, 2);
    cr_assert_str_eq(config->modules.line[0].word[3], "b");
    cr_assert_eq(config->users.count, 1);
    cr_assert_eq(config->users.line[0].count, 5);
    cr_assert_eq(config->renamed_commands.count, 1);
    cr_assert_str_eq(config->renamed_commands.line[0].word[2], "");
    cr_assert_str_eq(config->file, path);
}

Test(config_file, save_lines_add_up) {
    cr_assert_eq(load_text_file("save 900 1\nsave 300 10 60 10000\n"), 0);
    cr_assert_str_eq(get("save"), "900 1 300 10 60 10000");
    cr_assert_eq(load_text_file("save 900 1\nsave \"\"\nsave 5 5\n"), 0);
    cr_assert_str_eq(get("save"), "5 5");
    cr_assert_eq(load_text_file("save \"\"\n"), 0);
    cr_assert_str_eq(get("save"), "");
}

Test(config_file, fatal_messages) {
    static const struct {
        const char *text;
        int line;
        const char *shown, *message;
    } cases[] = {
        {"port 1\n  foo bar \n", 2, "foo bar", "Bad directive or wrong number of arguments"},
        {"port\n", 1, "port", "wrong number of arguments"},
        {"\n\nport 1 2", 3, "port 1 2", "wrong number of arguments"},
        {"bind \"a", 1, "bind \"a", "Unbalanced quotes in configuration line"},
        {"loglevel loud", 1, "loglevel loud",
         "argument(s) must be one of the following: debug, verbose, notice, warning, nothing"},
        {"include", 1, "include", "Bad directive or wrong number of arguments"},
        {"a.b", 1, "a.b", "Module config specified without value"},
        {"sentinel monitor", 1, "sentinel monitor",
         "sentinel directive while not in sentinel mode"},
        {"replicaof a 70000", 1, "replicaof a 70000", "Invalid master port"},
        {"unixsocketperm 999", 1, "unixsocketperm 999",
         "argument couldn't be parsed as an octal number"},
        {"dir /nonexistent/dir", 1, "dir /nonexistent/dir", "No such file or directory"},
        {"io-threads 0", 1, "io-threads 0", "argument must be between 1 and 128 inclusive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[512];
        snprintf(expected, sizeof expected,
                 "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                 "Reading the configuration file, at line %d\n>>> '%s'\n%s\n",
                 cases[i].line, cases[i].shown, cases[i].message);
        cr_assert_eq(load_text_file(cases[i].text), -1, "%s", cases[i].text);
        cr_assert_str_eq(error, expected, "%s", error);
    }
    cr_assert_eq(load_text_file("cluster-enabled yes\nreplicaof h 1\n"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "replicaof directive not allowed in cluster mode\n");
    cr_assert_eq(load_text_file("logfile /nonexistent/log\n"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "Can't open the log file: No such file or directory\n");
    cr_assert_eq(config_current()->port, 6379, "nothing of it was published");
    cr_assert_eq(load_text_file("cluster-enabled yes\n"), 0);
    cr_assert_eq(config_current()->databases, 1);
}

Test(config_file, includes) {
    char text[512], other[256];
    snprintf(other, sizeof other, "%s/a.inc", directory);
    write_path(other, "port 1000\ntimeout 5\n");
    snprintf(other, sizeof other, "%s/b.inc", directory);
    write_path(other, "timeout 6\n");
    snprintf(text, sizeof text, "port 1\ninclude %s/*.inc\nport 2\ninclude %s/none*\n", directory,
             directory);
    cr_assert_eq(load_text_file(text), 0);
    cr_assert_eq(config_current()->port, 2, "the last one counts");
    cr_assert_eq(config_current()->timeout, 6);

    write_path(other, "\nwrong here\n");
    cr_assert_eq(load_text_file(text), -1);
    cr_assert_not_null(strstr(error, "line 4\n>>> 'wrong here'\nBad directive"),
                       "lines of all files of a pattern count on: %s", error);
    snprintf(text, sizeof text, "include %s\n", path);
    cr_assert_eq(load_text_file(text), -1, "a file that includes itself");
    cr_assert_not_null(strstr(error, "Too many levels of include"));

    int saved = dup(STDOUT_FILENO), silent = open("/dev/null", O_WRONLY);
    dup2(silent, STDOUT_FILENO);
    int result = load_words(1, "/nonexistent/file.conf");
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(silent);
    cr_assert_eq(result, -1);
    cr_assert_str_eq(error, "", "the log has it");
}

Test(config_file, arguments) {
    cr_assert_eq(load_words(5, "--port", "7002", "--bind", "1.2.3.4", "5.6.7.8"), 0);
    cr_assert_eq(config_current()->port, 7002);
    cr_assert_str_eq(get("bind"), "1.2.3.4 5.6.7.8");
    cr_assert_eq(load_words(2, "--save", ""), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_eq(load_words(2, "--save", "900 1 300 10"), 0);
    cr_assert_str_eq(get("save"), "900 1 300 10");
    cr_assert_eq(load_words(3, "--save", "--port", "7003"), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_str_eq(get("port"), "7003");
    cr_assert_eq(load_words(3, "--port", "7004", "--save"), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_eq(load_words(1, "--port 7005"), 0);
    cr_assert_str_eq(get("port"), "7005");
    cr_assert_eq(load_words(2, "--requirepass", "--odd \"password"), 0, "a value may look odd");
    cr_assert_str_eq(get("requirepass"), "--odd \"password");
    cr_assert_eq(load_words(1, "--port"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "Reading the configuration file, at line 2\n>>> 'port'\n"
                            "wrong number of arguments\n");
    cr_assert_eq(load_words(2, "--foo", "bar"), -1);
    cr_assert_not_null(strstr(error, "line 2\n>>> 'foo \"bar\"'\nBad directive"), "%s", error);
}

Test(config_file, arguments_follow_the_file) {
    const char *arguments[] = {"slotwise-server", path, "--port", "7006", "--save", "1", "2", NULL};
    write_path(path, "port 7007\ntimeout 9\nsave 900 1\n");
    cr_assert_eq(load_arguments(7, arguments, NULL), 0);
    cr_assert_eq(config_current()->port, 7006);
    cr_assert_eq(config_current()->timeout, 9);
    cr_assert_str_eq(get("save"), "900 1 1 2");
    /* The path becomes absolute. */
    char before[512];
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(chdir(directory), 0);
    cr_assert_eq(load_words(1, "slotwise.conf"), 0);
    cr_assert_str_eq(config_current()->file, path);
    cr_assert_eq(chdir(before), 0);
}

Test(config_file, standard_input) {
    int saved = dup(STDIN_FILENO);
    int saved_output = dup(STDOUT_FILENO);
    write_path(path, "port 7008\ntimeout 3\n");
    cr_assert_not_null(freopen(path, "r", stdin));
    cr_assert_not_null(freopen("/dev/null", "w", stdout));
    int result = load_words(3, "-", "--port", "7009");
    dup2(saved_output, STDOUT_FILENO);
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(saved_output);
    cr_assert_eq(result, 0);
    cr_assert_eq(config_current()->port, 7009);
    cr_assert_eq(config_current()->timeout, 3);
}

static const char *refuse_rename(const char *name, const char *new_name, void *context) {
    (void)new_name;
    (void)context;
    return strcmp(name, "get") == 0 ? NULL : "No such command in rename-command";
}

static int refuse_user(const struct config_line *line, void *context, char *why, size_t size) {
    (void)context;
    if (line->count > 2)
        return 0;
    snprintf(why, size, "Error in user declaration '%s': %s", line->word[1], "Syntax error");
    return -1;
}

Test(config_file, hooks) {
    struct config_hooks hooks = {.rename_command = refuse_rename, .user = refuse_user};
    const char *arguments[] = {"slotwise-server", path, NULL};
    write_path(path, "rename-command get got\nuser bob on\n");
    cr_assert_eq(load_arguments(2, arguments, &hooks), 0);
    write_path(path, "rename-command nosuch got\n");
    cr_assert_eq(load_arguments(2, arguments, &hooks), -1);
    cr_assert_not_null(strstr(error, "got'\nNo such command in rename-command\n"));
    write_path(path, "user bob\n");
    cr_assert_eq(load_arguments(2, arguments, &hooks), -1);
    cr_assert_not_null(strstr(error, "Error in user declaration 'bob': Syntax error\n"));
}

Test(config_file, check_text_touches_nothing) {
    static const char good[] = "dir /nonexistent\ninclude /nonexistent\nlogfile /nonexistent/x\n";
    char before[512], now[512];
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(config_check_text(good, strlen(good), error, sizeof error), 0, "%s", error);
    cr_assert_str_eq(getcwd(now, sizeof now), before);
    cr_assert_eq(config_check_text("port x", 6, error, sizeof error), -1);
    cr_assert_eq(config_check_text("port 1\0zz", 9, error, sizeof error), 0);
    cr_assert_eq(config_current()->port, 6379);
}
