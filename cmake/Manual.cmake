# The manual page and the completions for shells: written by a program of its own from the flags, so that they never
# tell another story than --help.
file(GLOB manual_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/manual/*.cpp)
add_executable(fastkv-manual ${manual_sources})
target_link_libraries(fastkv-manual PRIVATE fastkv-command fastkv fastkv-build-flags)

set(fastkv_manual_folder ${PROJECT_BINARY_DIR}/manual)
set(fastkv_manual_files ${fastkv_manual_folder}/fastkv.1 ${fastkv_manual_folder}/fastkv.bash
                        ${fastkv_manual_folder}/_fastkv ${fastkv_manual_folder}/fastkv.fish)
string(TIMESTAMP fastkv_manual_date "%Y-%m-%d" UTC)  # of SOURCE_DATE_EPOCH where that is set
add_custom_command(OUTPUT ${fastkv_manual_files}
                   COMMAND ${CMAKE_COMMAND} -E make_directory ${fastkv_manual_folder}
                   COMMAND fastkv-manual ${fastkv_manual_folder} ${fastkv_manual_date}
                   DEPENDS fastkv-manual VERBATIM COMMENT "Writing the manual page and the completions")
add_custom_target(fastkv-manual-files DEPENDS ${fastkv_manual_files})
add_dependencies(fastkv-cli fastkv-manual-files)  # so that what this target builds can be installed

install(FILES ${fastkv_manual_folder}/fastkv.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${fastkv_manual_folder}/fastkv.bash RENAME fastkv
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${fastkv_manual_folder}/_fastkv DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${fastkv_manual_folder}/fastkv.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
