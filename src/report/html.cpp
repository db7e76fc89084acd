#include "report/html.h"

#include "text/markup.h"

namespace fastkv::report {

Html& Html::open(const std::string& tag, const Attributes& attributes) {
    html_ += "<" + tag;
    for (const auto& [name, value] : attributes) {
        html_.append(" ").append(name).append("=\"").append(text::escaped(value)).append("\"");
    }
    html_ += ">";
    open_.push_back(tag);
    return *this;
}

Html& Html::close() {
    html_.append("</").append(open_.back()).append(">\n");
    open_.pop_back();
    return *this;
}

Html& Html::text(const std::string& plain) {
    html_ += text::escaped(plain);
    return *this;
}

Html& Html::element(const std::string& tag, const std::string& plain, const Attributes& attributes) {
    return open(tag, attributes).text(plain).close();
}

Html& Html::raw(const std::string& markup) {
    html_ += markup;
    return *this;
}

namespace {

/// A heading. A flag and its value stand on one line: "fastkv" may break before "--retain-rate 0.1", not within.
void put_heading(Html& html, const std::string& plain, const Attributes& attributes) {
    html.open("th", attributes);
    size_t flag = plain.find(" --");
    html.text(plain.substr(0, flag));
    while (flag != std::string::npos) {
        const size_t next = plain.find(" --", flag + 1);
        html.text(" ").open("span", {{"class", "flag"}}).text(plain.substr(flag + 1, next - flag - 1)).close();
        flag = next;
    }
    html.close();
}

void put_lines(Html& html, const HtmlLines& part, size_t n_columns) {
    html.open("tbody");
    if (!part.heading.empty()) {
        html.open("tr");
        put_heading(html, part.heading,
                    {{"colspan", std::to_string(n_columns)}, {"scope", "rowgroup"}, {"class", "heading"}});
        html.close();
    }
    for (const auto& line : part.lines) {
        html.open("tr");
        for (size_t i = 0; i < line.size(); ++i) {
            Attributes attributes;
            if (i == 0) attributes.emplace_back("scope", "row");
            constexpr size_t long_name = 24;
            if (i == 0 && line[i].text.size() > long_name) attributes.emplace_back("class", "long");
            if (!line[i].kind.empty()) attributes.emplace_back("class", line[i].kind);
            if (!line[i].title.empty()) attributes.emplace_back("title", line[i].title);
            if (i == 0) {
                put_heading(html, line[i].text, attributes);
            } else {
                html.element("td", line[i].text, attributes);
            }
        }
        html.close();
    }
    html.close();
}

}  // namespace

void put_table(Html& html, const std::string& caption, const std::vector<std::string>& columns,
               const std::vector<HtmlLines>& body) {
    // One that scrolls can be reached and moved with the keyboard.
    html.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", caption}});
    html.open("table").element("caption", caption).open("thead").open("tr");
    for (const std::string& column : columns) put_heading(html, column, {{"scope", "col"}});
    html.close().close();
    for (const HtmlLines& part : body) put_lines(html, part, columns.size());
    html.close().close();
}

void open_details(Html& html, const std::string& summary, bool open) {
    html.open("details", open ? Attributes{{"open", "open"}} : Attributes{}).element("summary", summary);
}

}  // namespace fastkv::report
