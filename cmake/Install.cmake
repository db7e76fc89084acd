# cmake --install: bin/fastkv, lib/libfastkv.so, headers and find_package(fastkv); the folder may be moved.
include(CMakePackageConfigHelpers)

if(APPLE)
    set(fastkv_origin @loader_path)
else()
    set(fastkv_origin $ORIGIN)
endif()
file(RELATIVE_PATH bin_to_lib /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
set_target_properties(fastkv-cli PROPERTIES INSTALL_RPATH ${fastkv_origin}/${bin_to_lib})
set_target_properties(fastkv PROPERTIES INSTALL_RPATH ${fastkv_origin} INSTALL_RPATH_USE_LINK_PATH ON)

install(TARGETS fastkv EXPORT fastkv-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS fastkv-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/fastkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(fastkv_config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/fastkv)
install(EXPORT fastkv-targets NAMESPACE fastkv:: FILE fastkv-config.cmake DESTINATION ${fastkv_config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fastkv-config-version.cmake DESTINATION ${fastkv_config_folder})

if(CMAKE_SYSTEM_NAME STREQUAL Linux)
    install(FILES packaging/fastkv.service DESTINATION lib/systemd/system)
endif()
