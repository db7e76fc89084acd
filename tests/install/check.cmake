# Installs fastkv, moves the folder, and uses it from there. cmake -DBUILD=… -DWORK=… -P check.cmake
function(run name)
    execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${WORK} RESULT_VARIABLE status OUTPUT_VARIABLE output
                    ERROR_VARIABLE output)
    if(status)
        message(FATAL_ERROR "${name} failed (${status}):\n${output}")
    endif()
    set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
run("install" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/first)
file(RENAME ${WORK}/first ${WORK}/moved)

run("configuring a project that uses it" ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/consumer
    -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} "-DCMAKE_CXX_FLAGS=${FLAGS}" -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_PREFIX_PATH=${WORK}/moved -DEXPECTED_VERSION=${VERSION})
run("building it" ${CMAKE_COMMAND} --build ${WORK}/consumer)
run("running it" ${WORK}/consumer/consumer)
if(NOT output MATCHES "^${VERSION}\n")
    message(FATAL_ERROR "the installed library says it is version ${output} instead of ${VERSION}")
endif()

run("the installed command" ${WORK}/moved/bin/fastkv --version)
if(NOT output MATCHES "^fastkv ${VERSION}\n")
    message(FATAL_ERROR "the installed command says: ${output}")
endif()

foreach(file share/man/man1/fastkv.1 share/bash-completion/completions/fastkv share/zsh/site-functions/_fastkv
             share/fish/vendor_completions.d/fastkv.fish)
    if(NOT EXISTS ${WORK}/moved/${file})
        message(FATAL_ERROR "${file} was not installed")
    endif()
endforeach()

# The ggml inside stays inside.
if(NM AND NOT APPLE)
    file(GLOB library ${WORK}/moved/lib*/libfastkv.so ${WORK}/moved/lib*/*/libfastkv.so)
    run("listing the symbols" ${NM} -D --defined-only ${library})
    if(output MATCHES " (ggml_init|llama_decode)\n")
        message(FATAL_ERROR "${library} exports ggml's and libllama's symbols")
    endif()
endif()
file(REMOVE_RECURSE ${WORK})
