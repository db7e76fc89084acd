// HTML that is balanced and escaped by the way it is written.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fastkv::report {

using Attributes = std::vector<std::pair<std::string, std::string>>;

class Html {
  public:
    Html& open(const std::string& tag, const Attributes& attributes = {});
    Html& close();  ///< the element that was opened last
    Html& text(const std::string& plain);
    Html& element(const std::string& tag, const std::string& plain, const Attributes& attributes = {});
    /// Markup that is known to be whole: a picture, a style sheet.
    Html& raw(const std::string& markup);

    /// Everything, when all elements are closed.
    const std::string& str() const { return html_; }

  private:
    std::string html_;
    std::vector<std::string> open_;
};

/// A cell of a table.
struct HtmlCell {
    std::string text;
    std::string title = {};  ///< shown to who points at it
    std::string kind = {};   ///< a class: "worse", "better", "quiet"
};

/// Lines under one heading.
struct HtmlLines {
    std::string heading;                       ///< "": none
    std::vector<std::vector<HtmlCell>> lines;  ///< [lines][columns]; the first names its line
};

/// A table that scrolls by itself where it is too wide: the first column to the left, numbers to the right. `caption`
/// says what it shows.
void put_table(Html& html, const std::string& caption, const std::vector<std::string>& columns,
               const std::vector<HtmlLines>& body);

/// What is there on demand.
void open_details(Html& html, const std::string& summary, bool open = false);

}  // namespace fastkv::report
