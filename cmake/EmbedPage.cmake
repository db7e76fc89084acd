# The files of the server's page as C++: cmake -DFOLDER=src/server/page -DOUTPUT=page.cpp -P EmbedPage.cmake
set(html "text/html; charset=utf-8")
set(css "text/css; charset=utf-8")
set(js "text/javascript; charset=utf-8")
set(svg "image/svg+xml")

file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*)
set(entries "")
foreach(name IN LISTS files)
    get_filename_component(extension ${name} LAST_EXT)
    string(SUBSTRING ${extension} 1 -1 kind)
    if(NOT DEFINED ${kind})
        message(FATAL_ERROR "${name}: no content type is known for .${kind} (cmake/EmbedPage.cmake)")
    endif()
    set(path "/page/${name}")
    if(name STREQUAL index.html)
        set(path "/")
    endif()
    file(READ ${FOLDER}/${name} content)
    string(APPEND entries "    {\"${path}\", \"${${kind}}\", R\"-page-file-(${content})-page-file-\"},\n")
endforeach()

file(WRITE ${OUTPUT} "// Made by cmake/EmbedPage.cmake from src/server/page/.
#include \"server/page.h\"

namespace fastkv::server {

static const PageFile page_files[] = {
${entries}};

const PageFile* find_page_file(const std::string& path) {
    for (const PageFile& file : page_files) {
        if (path == file.path) return &file;
    }
    return nullptr;
}

}  // namespace fastkv::server
")
