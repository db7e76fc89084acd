#include "eval/oracle.h"

#include <algorithm>
#include <numeric>

#include "eval/divergence.h"

namespace fastkv::eval {

namespace {

/// Models rest their attention on the first tokens, whatever those are (attention sinks). Every method but GemFilter
/// keeps them, so a share that counts them says little.
constexpr int n_first = 4;

double mean_of_layers(const std::vector<double>& layers) {
    return std::accumulate(layers.begin(), layers.end(), 0.0) / double(layers.size());
}

std::vector<double> layers_at(const Row& row, const char* key) { return row.more.at(key).get<std::vector<double>>(); }

/// What went on past a layer, and what the layers above pay to it.
Json propagated_of(std::span<const AnswerAttention> attention, std::span<const LayerReport> layers) {
    Json list = Json::array();
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
        const std::vector<int>& positions = layers[i].propagated;
        if (positions.empty()) continue;
        list.push_back({{"layer", i},
                        {"tokens", positions.size()},
                        {"share", share_on(attention.subspan(i + 1), positions, n_first)}});
    }
    return list;
}

/// The rows of a setting that were measured.
std::vector<const Row*> rows_of_setting(const std::vector<Row>& rows, const std::string& setting) {
    std::vector<const Row*> own;
    for (const Row& row : rows) {
        if (row.setting == setting && !row.failed()) own.push_back(&row);
    }
    return own;
}

Mean mean_over_rows(const std::vector<const Row*>& rows, const char* key) {
    std::vector<double> values;
    for (const Row* row : rows) values.push_back(mean_of_layers(layers_at(*row, key)));
    return mean_of_values(values);
}

/// Of the layer past which the fewest tokens go on.
Mean propagated_over_rows(const std::vector<const Row*>& rows) {
    std::vector<double> values;
    for (const Row* row : rows) {
        const Json& list = row->more.at("propagated");
        if (!list.empty()) values.push_back(list.back().at("share").get<double>());
    }
    return mean_of_values(values);
}

/// [n_layer] means over rows.
std::vector<double> curve_of(const std::vector<const Row*>& rows, const char* key) {
    std::vector<double> sums;
    for (const Row* row : rows) {
        const std::vector<double> layers = layers_at(*row, key);
        sums.resize(layers.size(), 0);
        for (size_t i = 0; i < layers.size(); ++i) sums[i] += layers[i] / double(rows.size());
    }
    return sums;
}

std::vector<plot::ChartPoint> points_of(const std::vector<double>& values) {
    std::vector<plot::ChartPoint> points;
    for (size_t i = 0; i < values.size(); ++i) points.push_back({double(i), values[i]});
    return points;
}

}  // namespace

const Oracle::FullAnswer& Oracle::full_answer(const Sample& sample, const Asking& asking) const {
    if (full_ && full_->sample_id == sample.id) return *full_;
    full_.reset();
    SessionParams params = asking.session;
    params.n_predict = sample.n_predict;
    params.record_attention = true;
    Session session(asking.model, {.method = "fullkv"}, params);
    session.prefill(asking.prompt.tokens, asking.progress);
    FullAnswer full{.sample_id = sample.id, .text = {}, .n_prompt = session.n_prompt(), .attention = {}};
    int n_tokens = 0;
    for (; n_tokens < sample.n_predict; ++n_tokens) {
        if (!asking.progress({})) throw Error(ErrorKind::cancelled, "stopped between two tokens");
        const Token next = top_token(session.logits());
        if (asking.model.is_end_of_generation(next)) break;
        full.text += asking.model.piece(next);
        session.decode(next);
    }
    if (n_tokens == 0) fail("FullKV's answer is empty: it looks at nothing");
    for (int layer = 0; layer < asking.model.hparams().n_layer; ++layer) {
        const auto sums = session.recorded_attention(layer);
        full.attention.emplace_back(sums.begin(), sums.end());
    }
    return full_.emplace(std::move(full));
}

void Oracle::ask(const Sample& sample, const Asking& asking, Row& row) const {
    const FullAnswer& full = full_answer(sample, asking);
    row.references = {full.text};
    SessionParams params = asking.session;
    params.n_predict = 0;
    Session session(asking.model, asking.method, params);
    session.prefill(asking.prompt.tokens, asking.progress);

    std::vector<AnswerAttention> attention;
    std::vector<double> kept, best, kept_all;
    for (size_t layer = 0; layer < full.attention.size(); ++layer) {
        attention.push_back({full.attention[layer], asking.model.hparams().n_head, full.n_prompt});
        const AttentionShare share = kept_share(attention[layer], session.layers()[layer], n_first);
        kept.push_back(share.kept);
        best.push_back(share.best);
        kept_all.push_back(kept_share(attention[layer], session.layers()[layer], 0).kept);
    }
    row.score = mean_of_layers(kept);
    row.more["kept"] = kept;
    row.more["best"] = best;
    row.more["kept_all"] = kept_all;
    row.more["propagated"] = propagated_of(attention, session.layers());
    row.prefill_seconds = session.prefill_stats().seconds;
    row.kv_cache_bytes = session.memory().kv_cache_bytes;
}

std::vector<Table> oracle_tables(const std::vector<Row>& rows) {
    Table table = table_of(rows, "Share of the answer's attention that falls on what is kept, in %, mean over layers",
                           [](const Row&) { return "kept"; });
    table.columns = {"kept", "best choice", "with the first tokens", "propagated, in the layers above"};
    for (SettingLine& line : table.lines) {
        const auto own = rows_of_setting(rows, line.setting);
        const int n_failed = line.cells[0].n_failed;
        line.cells = {{mean_over_rows(own, "kept"), n_failed},
                      {mean_over_rows(own, "best"), 0},
                      {mean_over_rows(own, "kept_all"), 0},
                      {propagated_over_rows(own), 0}};
    }
    return {table};
}

plot::Chart oracle_chart(const std::vector<Row>& rows) {
    plot::Chart chart{.title = "", .x = {}, .y = plot::percent_axis(""), .lines = {}};
    int n_layer = 0, n_line = 0;
    for (const auto& [setting, name] : setting_names(rows)) {
        const auto own = rows_of_setting(rows, setting);
        if (own.empty() || own[0]->method == "fullkv") continue;
        const plot::Paint paint = plot::Paint::series(n_line);
        const bool dashed = n_line++ / plot::n_series % 2 == 1;  // the second line of its colour
        chart.lines.push_back({"", paint, points_of(curve_of(own, "best")), 0.8, dashed});
        chart.lines.push_back({name, paint, points_of(curve_of(own, "kept")), 2.2, dashed});
        n_layer = std::max(n_layer, int(chart.lines.back().points.size()));
    }
    chart.x = plot::counting_axis("layer", n_layer);
    return chart;
}

std::vector<std::pair<std::string, std::string>> Oracle::files(const std::vector<Row>& rows) const {
    const plot::Chart chart = oracle_chart(rows);
    if (chart.lines.empty()) return {};
    const auto draw = [&](plot::Target target) {
        return draw_charts("Share of the answer's attention on what each layer keeps",
                           {"thin: the same number of tokens, chosen by the attention itself"}, {chart}, target);
    };
    std::vector<std::pair<std::string, std::string>> files = {{"layers.svg", draw(plot::Target::svg)}};
    if (plot::can_draw_png()) files.emplace_back("layers.png", draw(plot::Target::png));
    return files;
}

}  // namespace fastkv::eval
