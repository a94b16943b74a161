# Writes slotwise_version.h: the version, and the git revision that the sources are at. Run at build time with -P and
# SOURCE_DIR, OUTPUT, VERSION and BUILD (what made the build: compiler and build type). Without git or outside a checkout
# the revision is eight zeros, as Redis reports it.
cmake_minimum_required(VERSION 3.25)
set(sha1 "00000000")
set(dirty 0)
find_program(GIT git)
if(GIT AND EXISTS "${SOURCE_DIR}/.git")
    # Git refuses to look into what belongs to another user, as when root builds somebody's checkout. Only these two commands
    # look; nothing of the repository's configuration runs a program then.
    set(git "${GIT}" -c safe.directory=* -c core.fsmonitor=false -C "${SOURCE_DIR}")
    execute_process(COMMAND ${git} rev-parse --short=8 HEAD
        OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
        set(sha1 ${revision})
        execute_process(COMMAND ${git} --no-optional-locks status --porcelain --untracked-files=no
            OUTPUT_VARIABLE changes ERROR_QUIET)
        if(changes)
            set(dirty 1)
        endif()
    endif()
endif()
string(SHA1 build_id "${VERSION}-${sha1}-${dirty}-${BUILD}")
string(SUBSTRING "${build_id}" 0 16 build_id)

file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT "/* What this build is. Made by server/packaging/version.cmake; do not edit. */
#ifndef SLOTWISE_VERSION_H
#define SLOTWISE_VERSION_H

#define SLOTWISE_VERSION \"@VERSION@\"
#define SLOTWISE_GIT_SHA1 \"@sha1@\"
#define SLOTWISE_GIT_DIRTY @dirty@
#define SLOTWISE_BUILD_ID \"@build_id@\"

#endif
")
