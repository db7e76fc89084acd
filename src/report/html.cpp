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

void put_lines(Html& html, const HtmlLines& part, size_t n_columns) {
    html.open("tbody");
    if (!part.heading.empty()) {
        html.open("tr").element("th", part.heading,
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
            html.element(i == 0 ? "th" : "td", line[i].text, attributes);
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
    for (const std::string& column : columns) html.element("th", column, {{"scope", "col"}});
    html.close().close();
    for (const HtmlLines& part : body) put_lines(html, part, columns.size());
    html.close().close();
}

void open_details(Html& html, const std::string& summary, bool open) {
    html.open("details", open ? Attributes{{"open", "open"}} : Attributes{}).element("summary", summary);
}

}  // namespace fastkv::report
