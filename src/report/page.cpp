#include "report/page.h"

#include "report/html.h"
#include "report/look.h"
#include "report/sections.h"
#include "report/shown.h"
#include "text/format.h"

namespace fastkv::report {

namespace {

using text::format;

std::string name_of(const Model& model) { return model.file.empty() ? "A model of unknown name" : model.file; }

std::string anchor(size_t model, const char* kind, size_t index) {
    return format("model-%zu-%s-%zu", model, kind, index);
}

void put_list(Html& html, const std::vector<std::string>& items) {
    html.open("ul");
    for (const std::string& item : items) html.element("li", item);
    html.close();
}

void put_complaints(Html& html, const Results& results) {
    if (results.complaints.empty()) return;
    html.open("section", {{"class", "alert"}}).element("h2", "Not all could be read");
    put_list(html, results.complaints);
    html.element("p", "What stands in these lines or files is missing below.").close();
}

void put_contents(Html& html, const Results& results) {
    const auto link = [&](const std::string& to, const std::string& text) {
        html.open("li").element("a", text, {{"href", "#" + to}}).close();
    };
    html.open("nav", {{"aria-label", "Contents"}});
    for (size_t i = 0; i < results.models.size(); ++i) {
        const Model& model = results.models[i];
        html.open("ul");
        link(anchor(i, "all", 0), name_of(model));
        for (size_t k = 0; k < model.evaluations.size(); ++k)
            link(anchor(i, "eval", k), title_of(model.evaluations[k]));
        for (size_t k = 0; k < model.benches.size(); ++k) {
            link(anchor(i, "bench", k), title_of(model.benches[k]));
        }
        html.close();
    }
    html.close();
}

void put_model(Html& html, const Model& model, size_t index, const SettingNames& names) {
    html.open("section", {{"id", anchor(index, "all", 0)}}).element("h2", name_of(model));
    put_runs(html, model, names);
    put_summary(html, model, names);
    for (size_t i = 0; i < model.evaluations.size(); ++i) {
        put_evaluation(html, model.evaluations[i], anchor(index, "eval", i), names);
    }
    for (size_t i = 0; i < model.benches.size(); ++i) {
        put_bench(html, model.benches[i], anchor(index, "bench", i), names);
    }
    html.close();
}

void put_head(Html& html, const std::string& title) {
    html.open("head").raw("<meta charset=\"utf-8\"/>\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\"/>\n");
    html.element("title", title);
    html.open("style").raw(style_sheet()).close();
    html.close();
}

void put_body(Html& html, const Results& results, const PageFacts& facts, const std::string& title) {
    html.open("body").element("a", "To the results", {{"class", "skip"}, {"href", "#results"}});
    html.open("header").element("h1", title);
    html.element("p",
                 facts.folder + ", put together by fastkv " + facts.version + " on " + minute_of(facts.time) + " UTC",
                 {{"class", "quiet"}});
    html.element("button", "Dark colours", {{"id", "theme"}, {"type", "button"}, {"hidden", "hidden"}});
    put_contents(html, results);
    html.close();
    html.open("main", {{"id", "results"}});
    put_complaints(html, results);
    const SettingNames names(results);
    for (size_t i = 0; i < results.models.size(); ++i) put_model(html, results.models[i], i, names);
    if (!results.skipped.empty()) {
        open_details(html, format("%zu JSON files hold no results and were skipped", results.skipped.size()));
        put_list(html, results.skipped);
        html.close();
    }
    html.close();
    html.open("script").raw(script()).close();
    html.close();
}

}  // namespace

std::string page(const Results& results, const PageFacts& facts) {
    const std::string title =
        results.models.size() == 1 ? "What methods cost: " + name_of(results.models[0]) : "What methods cost";
    Html html;
    html.raw("<!DOCTYPE html>\n").open("html", {{"lang", "en"}});
    put_head(html, title);
    put_body(html, results, facts, title);
    html.close();
    return html.str();
}

}  // namespace fastkv::report
