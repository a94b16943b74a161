# What cpack reads first where file or dpkg-shlibdeps was missing when the build was configured.
foreach(tool file dpkg-shlibdeps)
    find_program(tool_${tool} ${tool})
    if(NOT tool_${tool})
        message(FATAL_ERROR "There is no ${tool}. server/run --build-only installs what a package needs (Debian 12).")
    endif()
endforeach()
