# What `cmake --install` and `cpack -G DEB` put where.
#
# Destinations are decided when the files are installed and not when the build is configured, so that every way works from
# one build: a prefix of its own (etc/ inside it), /usr with or without DESTDIR and the package (etc/ beside it, as the file
# hierarchy standard has it). The systemd unit is written at the same moment, with the paths that result.
if(NOT TARGET slotwise-server)
    return()
endif()
include(GNUInstallDirs)

install(TARGETS slotwise-server RUNTIME DESTINATION bin)
install(FILES LICENSE README.md DESTINATION share/doc/slotwise)

configure_file(server/packaging/install.cmake.in ${CMAKE_BINARY_DIR}/slotwise_install.cmake @ONLY)
install(SCRIPT ${CMAKE_BINARY_DIR}/slotwise_install.cmake)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME slotwise)
set(CPACK_PACKAGE_VENDOR "The Slotwise authors")
set(CPACK_PACKAGE_CONTACT "The Slotwise authors <slotwise@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES OFF) # a crash report needs the names, and perf the line numbers
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION database)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Both are looked for now and missed, with a message that helps, when a package is made.
foreach(tool file dpkg-shlibdeps)
    find_program(SLOTWISE_TOOL_${tool} ${tool})
    if(NOT SLOTWISE_TOOL_${tool})
        set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_SOURCE_DIR}/server/packaging/no_tools.cmake)
    endif()
endforeach()
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"Slotwise speaks the protocol of Redis 7.2 to the same clients and tools, serves
every command on all cores of one process and reads redis.conf directives.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_SOURCE_DIR}/server/packaging/postinst
    ${CMAKE_SOURCE_DIR}/server/packaging/prerm
    ${CMAKE_SOURCE_DIR}/server/packaging/postrm)
if(EXISTS ${CMAKE_SOURCE_DIR}/server/slotwise.conf)
    list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/server/packaging/conffiles)
endif()
include(CPack)
