// The page at /: its files, which the build puts into the program (src/server/page/, cmake/EmbedPage.cmake).
#pragma once

#include <string>
#include <string_view>

namespace fastkv::server {

struct PageFile {
    const char* path;  ///< in a request: "/" for index.html, "/page/style.css" and the like for the others
    const char* content_type;
    std::string_view body;
};

/// nullptr where the page has no such file.
const PageFile* find_page_file(const std::string& path);

}  // namespace fastkv::server
