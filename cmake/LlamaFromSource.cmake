# Builds ggml and libllama once per machine, from the copy of llama.cpp inside a package that pip fetches, and
# keeps the result outside the tree: every build folder and every clone with the same compiler and options shares it.
set(llama_package llama-cpp-python)
set(llama_package_version 0.3.36)
set(llama_package_sha256 832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e)
set(llama_package_commit 0c1e570)  # of the llama.cpp inside

# Sets `result` to a folder that find_package(llama) understands.
function(fastkv_build_llama result)
    if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
        set(cache $ENV{XDG_CACHE_HOME}/fastkv/deps)
    else()
        set(cache $ENV{HOME}/.cache/fastkv/deps)
    endif()
    find_package(Python3 REQUIRED COMPONENTS Interpreter)

    # Release, whatever fastkv's own build type: an unoptimised ggml is of no use to anybody.
    set(options -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON
                -DGGML_NATIVE=${FASTKV_NATIVE} -DGGML_OPENMP=ON -DGGML_RPC=ON -DGGML_ALL_WARNINGS=OFF -DLLAMA_ALL_WARNINGS=OFF
                -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF
                -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
                -DLLAMA_BUILD_COMMIT=${llama_package_commit} -DLLAMA_BUILD_NUMBER=0)
    if(FASTKV_CUDA)
        list(APPEND options -DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF)
        if(CMAKE_CUDA_ARCHITECTURES)
            list(APPEND options "-DCMAKE_CUDA_ARCHITECTURES=${CMAKE_CUDA_ARCHITECTURES}")
        endif()
    endif()
    if(fastkv_sanitizer_flags)
        # Sanitized code is for tests on tiny models: lightly optimised, for the optimiser takes long on it. Without
        # UBSan, which doubles that again and objects to ggml loading enums from a file before it checks them.
        list(JOIN fastkv_sanitizer_flags " " flags)
        string(REPLACE ",undefined" "" flags "${flags}")
        foreach(language C CXX)
            list(APPEND options "-DCMAKE_${language}_FLAGS=${flags}" "-DCMAKE_${language}_FLAGS_RELEASE=-O1 -DNDEBUG")
        endforeach()
    endif()
    separate_arguments(more UNIX_COMMAND "${FASTKV_LLAMA_OPTIONS}")
    list(APPEND options ${more})

    # With GGML_NATIVE the objects fit this processor only, so what the compiler makes of it is part of the key.
    set(cpu "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")
    if(FASTKV_NATIVE)
        execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null
                        OUTPUT_VARIABLE macros ERROR_QUIET)
        cmake_host_system_information(RESULT processor QUERY PROCESSOR_DESCRIPTION)
        string(APPEND cpu "${processor}${macros}")
    endif()
    string(SHA256 key "${llama_package_sha256};${options};${CMAKE_CXX_COMPILER_ID};${CMAKE_CXX_COMPILER_VERSION};${cpu}")
    string(SUBSTRING ${key} 0 16 key)
    set(prefix ${cache}/llama-${llama_package_version}-${key})

    file(MAKE_DIRECTORY ${cache})
    file(LOCK ${cache}/llama-${key}.lock GUARD FUNCTION TIMEOUT 3600)
    if(NOT EXISTS ${prefix})
        message(NOTICE "-- ggml and libllama: building them once for this machine (a few minutes), into ${prefix}")
        set(work ${prefix}.part)
        file(REMOVE_RECURSE ${work})
        file(MAKE_DIRECTORY ${work})
        fastkv_fetch_llama(${cache}/downloads archive)
        fastkv_unpack_llama(${archive} ${work})
        fastkv_compile_llama(${work} "${options}")
        # The last step, so that a folder of this name is always complete.
        file(RENAME ${work}/installed ${prefix})
        file(REMOVE_RECURSE ${work})
    endif()
    message(STATUS "ggml and libllama: ${llama_package} ${llama_package_version} in ${prefix}")
    set(${result} ${prefix} PARENT_SCOPE)
endfunction()

# Sets `result` to the package file, checked, in `folder`.
function(fastkv_fetch_llama folder result)
    string(REPLACE "-" "_" file_name ${llama_package})
    set(archive ${folder}/${file_name}-${llama_package_version}.tar.gz)
    file(MAKE_DIRECTORY ${folder})
    file(LOCK ${folder}/.lock GUARD FUNCTION TIMEOUT 3600)
    if(EXISTS ${archive})
        file(SHA256 ${archive} sha256)
        if(NOT sha256 STREQUAL llama_package_sha256)
            file(REMOVE ${archive})
        endif()
    endif()
    if(NOT EXISTS ${archive})
        message(NOTICE "-- Fetching ${llama_package} ${llama_package_version} (77 MB) with pip")
        execute_process(COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/lib/fetch_package.py
                                ${llama_package} ${llama_package_version} ${llama_package_sha256} ${archive}
                        RESULT_VARIABLE status)
        if(status)
            message(FATAL_ERROR "${llama_package} ${llama_package_version} could not be fetched with pip. Either make "
                                "that work, put the package's source archive at ${archive}, or install ggml and "
                                "libllama and name their folder with -DCMAKE_PREFIX_PATH=.")
        endif()
    endif()
    set(${result} ${archive} PARENT_SCOPE)
endfunction()

# Only llama.cpp out of the package, to `work`/source.
function(fastkv_unpack_llama archive work)
    file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${work}/package PATTERNS "*/vendor/llama.cpp/*")
    file(GLOB source ${work}/package/*/vendor/llama.cpp)
    file(RENAME ${source} ${work}/source)
    file(REMOVE_RECURSE ${work}/package ${work}/source/.git)
endfunction()

# `work`/source to `work`/installed.
function(fastkv_compile_llama work options)
    set(launchers "")
    foreach(language C CXX CUDA)
        if(CMAKE_CXX_COMPILER_LAUNCHER)
            list(APPEND launchers -DCMAKE_${language}_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER})
        endif()
    endforeach()
    # The C compiler that belongs to the C++ compiler, where the name tells; otherwise CMake's choice.
    set(compilers -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER})
    string(REGEX REPLACE "clang\\+\\+([^/]*)$" "clang\\1" c_compiler ${CMAKE_CXX_COMPILER})
    string(REGEX REPLACE "g\\+\\+([^/]*)$" "gcc\\1" c_compiler ${c_compiler})
    if(NOT c_compiler STREQUAL CMAKE_CXX_COMPILER AND EXISTS ${c_compiler})
        list(APPEND compilers -DCMAKE_C_COMPILER=${c_compiler})
    endif()
    if(CMAKE_TOOLCHAIN_FILE)
        list(APPEND compilers -DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE})
    endif()
    # A git repository that happens to hold the cache folder says nothing about this source.
    set(cmake_alone ${CMAKE_COMMAND} -E env GIT_CEILING_DIRECTORIES=${work} ${CMAKE_COMMAND})
    # The build shows itself, for it takes minutes; the other steps speak up only when they fail.
    fastkv_llama_step("configuring" "OUTPUT_VARIABLE;output;ERROR_VARIABLE;output"
                      ${cmake_alone} -S ${work}/source -B ${work}/build -G ${CMAKE_GENERATOR}
                      -DCMAKE_MAKE_PROGRAM=${CMAKE_MAKE_PROGRAM} -DCMAKE_INSTALL_PREFIX=${work}/installed
                      -DCMAKE_INSTALL_LIBDIR=lib ${compilers} ${launchers} ${options})
    fastkv_llama_step("building" "" ${cmake_alone} --build ${work}/build --parallel --config Release)
    fastkv_llama_step("installing" "OUTPUT_VARIABLE;output;ERROR_VARIABLE;output"
                      ${cmake_alone} --install ${work}/build --config Release)
endfunction()

function(fastkv_llama_step name capture)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE status ${capture})
    if(status)
        message(FATAL_ERROR "${output}\nggml and libllama: ${name} failed, see above")
    endif()
endfunction()
