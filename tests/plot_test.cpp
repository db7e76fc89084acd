// Pictures: axes, names beside points, charts, and the colours of light and dark pages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plot/chart.h"
#include "plot/labels.h"
#include "support/markup.h"
#include "text/markup.h"

namespace fastkv::plot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> labels_of(const Axis& axis) {
    std::vector<std::string> labels;
    for (const Tick& tick : axis.ticks) labels.push_back(tick.label);
    return labels;
}

int count(const std::string& text, const std::string& part) {
    int n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

TEST(Markup, IsEscapedWholly) {
    EXPECT_EQ(text::escaped("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    EXPECT_EQ(text::escaped("tab\tline\n\x01\x1b\x7f"), "tab\tline\n\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    EXPECT_EQ(text::escaped("\xC3\xA9 \xFF \xE2\x82"), "\xC3\xA9 \xEF\xBF\xBD \xEF\xBF\xBD");
}

TEST(PlotAxis, HasRoundTicksThatHoldAllValues) {
    EXPECT_THAT(labels_of(percent_axis("")), ElementsAre("0 %", "20 %", "40 %", "60 %", "80 %", "100 %"));
    EXPECT_THAT(labels_of(percent_axis("", 0.3, 1)), ElementsAre("40 %", "60 %", "80 %", "100 %"));
    EXPECT_THAT(labels_of(linear_axis("", {0.7, 1.1})), ElementsAre("0", "0.5", "1", "1.5"));
    EXPECT_THAT(labels_of(logarithmic_axis("", {1, 90})), ElementsAre("1", "2", "5", "10", "20", "50", "100"));
    EXPECT_THAT(labels_of(length_axis("", {4000, 500, 1000})), ElementsAre("500", "1K", "4K"));
    EXPECT_THAT(labels_of(counting_axis("layer", 3)), ElementsAre("0", "1", "2"));
    EXPECT_EQ(counting_axis("layer", 70).ticks.size(), 14u);
    for (const Axis& axis : {linear_axis("", {3, 20}), logarithmic_axis("", {3, 20}), length_axis("", {3, 20})}) {
        EXPECT_GE(axis.share(3), 0);
        EXPECT_LT(axis.share(3), axis.share(20));
        EXPECT_LE(axis.share(20), 1);
    }
}

TEST(PlotAxis, StandsWithoutValues) {
    for (const Axis& axis :
         {linear_axis("", {}), logarithmic_axis("", {0, -1}), length_axis("", {}), counting_axis("", 0)}) {
        EXPECT_LT(axis.low, axis.high);
    }
}

TEST(PlotLabels, DoNotCoverEachOther) {
    const Box frame{0, 0, 400, 300};
    std::vector<std::pair<double, double>> points;
    std::vector<std::string> names;
    for (int i = 0; i < 8; ++i) {
        points.emplace_back(100 + i, 150 + 3 * i);
        names.push_back("setting " + std::to_string(i));
    }
    const auto labels = place_labels(points, names, frame, {});
    const auto box = [](const Label& label) {
        const double width = text_width(label.words);
        const double left = label.x - (label.anchor == Anchor::start    ? 0
                                       : label.anchor == Anchor::middle ? width / 2
                                                                        : width);
        return Box{left, label.y - 10, left + width, label.y + 4};
    };
    for (size_t i = 0; i < labels.size(); ++i) {
        const Box a = box(labels[i]);
        EXPECT_TRUE(a.left >= 0 && a.right <= 400 && a.top >= 0 && a.bottom <= 300);
        for (size_t k = 0; k < i; ++k) {
            const Box b = box(labels[k]);
            const bool apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
            EXPECT_TRUE(apart) << labels[i].words << " and " << labels[k].words;
        }
    }
}

TEST(PlotLabels, SpreadInTheirOrder) {
    EXPECT_THAT(spread_heights({50, 52, 10}, 18, 0, 100), ElementsAre(50, 68, 10));
    EXPECT_THAT(spread_heights({99, 98}, 18, 0, 100), ElementsAre(100, 82));
    EXPECT_THAT(spread_heights({}, 18, 0, 100), ElementsAre());
}

Chart small_chart() {
    Chart chart{
        .title = "a < b",
        .x = counting_axis("layer", 3),
        .y = percent_axis("share"),
        .lines = {{"one & only", Paint::series(0), {{0, 0.1}, {1, 0.5}, {2, 1}}},
                  {"two", Paint::series(1), {{0, 1, {{0.8, 1}}, "100 % \"of\" all"}}, 0, true, Marker::circle}}};
    chart.reference = {.y = 0.7, .interval = {{0.6, 0.8}}, .name = "FullKV"};
    return chart;
}

TEST(PlotChart, DrawsLinesPointsAndNames) {
    const std::string svg = draw_charts("title", {"note"}, {small_chart(), small_chart()}, Target::svg);
    EXPECT_EQ(test::markup_problem(svg), "");
    EXPECT_EQ(count(svg, "<polyline"), 2);
    EXPECT_EQ(count(svg, "<circle"), 4);  // a point and its name's sample, in both
    EXPECT_EQ(count(svg, "stroke-opacity='0.45'"), 2);
    for (const char* words : {">title<", ">note<", ">a &lt; b<", ">one &amp; only<", ">layer<", ">FullKV<",
                              "<title>100 % &quot;of&quot; all</title>"}) {
        EXPECT_THAT(svg, HasSubstr(words));
    }
    EXPECT_EQ(draw_chart(small_chart(), "", Target::png).substr(1, 3), can_draw_png() ? "PNG" : "svg");
}

TEST(PlotChart, FollowsLightAndDark) {
    const std::string file = draw_chart(small_chart(), "name", Target::svg);
    EXPECT_THAT(file, HasSubstr("prefers-color-scheme: dark"));
    EXPECT_THAT(file, HasSubstr("aria-label='name'"));
    // Within a page the colours are the page's.
    const std::string part = draw_chart(small_chart(), "name", Target::svg_in_page);
    EXPECT_THAT(part, Not(HasSubstr("<style")));
    EXPECT_THAT(part, HasSubstr("class='s0' stroke='currentColor'"));
    EXPECT_THAT(palette_css(false, "p "), HasSubstr("p .s0 { color: #0072b2; }"));
    EXPECT_NE(palette_css(false, ""), palette_css(true, ""));
}

TEST(PlotChart, StandsWithoutLines) {
    const Chart chart{.title = "", .x = counting_axis("", 0), .y = percent_axis(""), .lines = {}};
    EXPECT_THAT(draw_chart(chart, "", Target::svg), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace fastkv::plot
