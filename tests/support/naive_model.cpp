#include "support/naive_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "ggml.h"
#include "gguf.h"

namespace fastkv::test {

namespace {

std::string block(int layer, const char* name) { return "blk." + std::to_string(layer) + "." + name; }

/// Row `i` of rows of `width`.
std::span<const double> row_of(const std::vector<double>& rows, size_t i, size_t width) {
    return std::span(rows).subspan(i * width, width);
}

double dot(std::span<const double> a, std::span<const double> b) {
    return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0);
}

void append(std::vector<double>& rows, std::span<const double> row) { rows.insert(rows.end(), row.begin(), row.end()); }

/// Scores become probabilities; -infinity is hidden.
void softmax(std::vector<double>& scores) {
    const double highest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - highest);
    for (double& score : scores) score /= sum;
}

}  // namespace

NaiveModel::NaiveModel(const std::string& path, const HyperParams& hp) : hparams(hp) {
    ggml_context* context = nullptr;
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
        gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &context}), gguf_free);
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> owner(context, ggml_free);
    if (!gguf) throw std::runtime_error("cannot read " + path);
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); ++i) {
        const char* name = gguf_get_tensor_name(gguf.get(), i);
        const ggml_tensor* t = ggml_get_tensor(context, name);
        if (t->type != GGML_TYPE_F32) throw std::runtime_error(std::string(name) + " is not float32");
        const float* data = static_cast<const float*>(t->data);
        tensors_[name] = std::vector<double>(data, data + ggml_nelements(t));
    }
}

const std::vector<double>& NaiveModel::tensor(const std::string& name) const {
    static const std::vector<double> none;
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? none : found->second;
}

NaiveSession::NaiveSession(const NaiveModel& model) : model_(&model), layers_(size_t(model.hparams.n_layer)) {}

void NaiveSession::prefill(std::span<const Token> prompt, std::span<const std::vector<int>> go_on) {
    const HyperParams& hp = model_->hparams;
    const std::vector<double>& embedding = model_->tensor("token_embd.weight");
    n_prompt_ = prompt.size();
    std::map<int, std::vector<double>> stream;  // residual rows by position
    for (size_t i = 0; i < prompt.size(); ++i) {
        const auto row = row_of(embedding, size_t(prompt[i]), size_t(hp.n_embd));
        stream[int(i)].assign(row.begin(), row.end());
    }
    for (int layer = 0; layer < hp.n_layer; ++layer) {
        for (const auto& [position, x] : stream) enter(layer, x, position, position);
        const std::vector<int>& stay = go_on[size_t(layer)];
        if (!stay.empty()) {
            std::erase_if(stream, [&](const auto& row) { return !std::ranges::binary_search(stay, row.first); });
        }
        std::vector<NaiveEntry> before;
        const std::vector<int>& keys = layers_[size_t(layer)].positions;
        for (auto& [position, x] : stream) {
            while (keys[before.size()] < position) before.push_back({keys[before.size()], keys[before.size()]});
            finish(layer, x, attend(layer, before.size(), position, [&](int, int) { return before; }));
        }
    }
    compute_logits(stream.rbegin()->second);
}

void NaiveSession::decode(Token token, int position, int stands_at, const Visible& visible) {
    const HyperParams& hp = model_->hparams;
    const auto embedding = row_of(model_->tensor("token_embd.weight"), size_t(token), size_t(hp.n_embd));
    std::vector<double> x(embedding.begin(), embedding.end());
    for (int layer = 0; layer < hp.n_layer; ++layer) {
        enter(layer, x, position, stands_at);
        finish(layer, x, attend(layer, layers_[size_t(layer)].positions.size() - 1, stands_at, visible));
    }
    compute_logits(x);
}

Scores NaiveSession::scores(int layer, const ScorePlan& plan) const {
    const HyperParams& hp = model_->hparams;
    const Layer& at = layers_[size_t(layer)];
    const size_t n_row = size_t(std::ranges::lower_bound(at.positions, int(n_prompt_)) - at.positions.begin());
    const size_t dim = size_t(hp.head_dim), q_width = size_t(hp.n_head) * dim, k_width = size_t(hp.n_head_kv) * dim;
    const size_t first_masked = plan.mask == ScoreMask::causal ? 0 : n_row - size_t(plan.tail);
    Scores scores{hp.n_head, int(n_row) - plan.tail, {}};
    for (int head = 0; head < hp.n_head; ++head) {
        std::vector<double> sums(n_row);
        for (size_t row = n_row - size_t(plan.n_query); row < n_row; ++row) {
            const auto q = row_of(at.q, row, q_width).subspan(size_t(head) * dim, dim);
            std::vector<double> line(n_row, -std::numeric_limits<double>::infinity());
            for (size_t key = 0; key < (row >= first_masked ? row + 1 : n_row); ++key) {
                line[key] = dot(q, row_of(at.turned, key, k_width).subspan(size_t(head / hp.n_group()) * dim, dim));
                if (plan.kind == ScoreKind::softmax) line[key] /= std::sqrt(double(dim));
            }
            if (plan.kind == ScoreKind::softmax) softmax(line);
            const double weight = row_weight(plan, int(row + size_t(plan.n_query) - n_row));
            for (size_t key = 0; key < n_row; ++key) sums[key] += weight * line[key];
        }
        for (int col = 0; col < scores.n_col; ++col) scores.values.push_back(float(sums[size_t(col)]));
    }
    return scores;
}

std::vector<double> NaiveSession::normed(std::span<const double> x, const std::string& weight) const {
    const std::vector<double>& w = model_->tensor(weight);
    const double scale = 1 / std::sqrt(dot(x, x) / double(x.size()) + double(model_->hparams.norm_eps));
    std::vector<double> y(x.begin(), x.end());
    for (size_t i = 0; i < y.size(); ++i) y[i] *= scale * w[i];
    return y;
}

/// `name` without ".weight" and ".bias".
std::vector<double> NaiveSession::linear(std::span<const double> x, const std::string& name) const {
    const std::vector<double>& w = model_->tensor(name + ".weight");
    std::vector<double> y = model_->tensor(name + ".bias");
    y.resize(w.size() / x.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] += dot(x, row_of(w, i, x.size()));
    return y;
}

/// RoPE: llama turns neighbouring pairs, qwen2 pairs half of the rotated dimensions apart.
void NaiveSession::rotate(std::span<double> heads, int position) const {
    const HyperParams& hp = model_->hparams;
    const size_t half = size_t(hp.n_rot) / 2;
    for (size_t i = 0; i < half; ++i) {
        const double angle =
            position * double(hp.rope_freq_scale) * std::pow(double(hp.rope_theta), -2 * double(i) / double(hp.n_rot));
        const double c = std::cos(angle), s = std::sin(angle);
        for (size_t head = 0; head < heads.size(); head += size_t(hp.head_dim)) {
            double& a = heads[head + (hp.arch == "qwen2" ? i : 2 * i)];
            double& b = heads[head + (hp.arch == "qwen2" ? i + half : 2 * i + 1)];
            const double turned = a * c - b * s;
            b = a * s + b * c;
            a = turned;
        }
    }
}

/// Query, key and value of one more token.
void NaiveSession::enter(int layer, std::span<const double> x, int position, int stands_at) {
    Layer& at = layers_[size_t(layer)];
    const std::vector<double> h = normed(x, block(layer, "attn_norm.weight"));
    std::vector<double> q = linear(h, block(layer, "attn_q")), k = linear(h, block(layer, "attn_k"));
    append(at.k, k);
    rotate(q, stands_at);
    rotate(k, position);
    append(at.q, q);
    append(at.turned, k);
    append(at.v, linear(h, block(layer, "attn_v")));
    at.rows.resize(size_t(position), -1);
    at.rows.push_back(int(at.positions.size()));
    at.positions.push_back(position);
}

/// What `row`, which stands at `stands_at`, reads from the entries that it sees and from its own: [n_head * head_dim].
std::vector<double> NaiveSession::attend(int layer, size_t row, int stands_at, const Visible& visible) const {
    const HyperParams& hp = model_->hparams;
    const Layer& at = layers_[size_t(layer)];
    const size_t dim = size_t(hp.head_dim), q_width = size_t(hp.n_head) * dim, k_width = size_t(hp.n_head_kv) * dim;
    std::vector<double> out(q_width);
    for (int head = 0; head < hp.n_head; ++head) {
        const size_t kv_head = size_t(head / hp.n_group()) * dim;
        const auto q = row_of(at.q, row, q_width).subspan(size_t(head) * dim, dim);
        std::vector<NaiveEntry> entries = visible(layer, head);
        entries.push_back({at.positions[row], stands_at});
        std::vector<double> p;
        std::vector<size_t> rows;
        for (const NaiveEntry& entry : entries) {
            if (hp.sliding_window > 0 && stands_at - entry.stands_at >= hp.sliding_window) continue;
            if (at.rows[size_t(entry.position)] < 0) {
                throw std::runtime_error("layer " + std::to_string(layer) + " never saw position " +
                                         std::to_string(entry.position));
            }
            rows.push_back(size_t(at.rows[size_t(entry.position)]));
            if (entry.stands_at == entry.position) {
                p.push_back(dot(q, row_of(at.turned, rows.back(), k_width).subspan(kv_head, dim)));
            } else {
                const auto key = row_of(at.k, rows.back(), k_width).subspan(kv_head, dim);
                std::vector<double> turned(key.begin(), key.end());
                rotate(turned, entry.stands_at);
                p.push_back(dot(q, turned));
            }
            p.back() /= std::sqrt(double(dim));
        }
        softmax(p);
        for (size_t j = 0; j < rows.size(); ++j) {
            const auto v = row_of(at.v, rows[j], k_width).subspan(kv_head, dim);
            for (size_t i = 0; i < dim; ++i) out[size_t(head) * dim + i] += p[j] * v[i];
        }
    }
    return out;
}

/// x += output of the attention; x += MLP.
void NaiveSession::finish(int layer, std::vector<double>& x, std::span<const double> attention) const {
    const std::vector<double> o = linear(attention, block(layer, "attn_output"));
    for (size_t i = 0; i < x.size(); ++i) x[i] += o[i];
    const std::vector<double> h = normed(x, block(layer, "ffn_norm.weight"));
    std::vector<double> gate = linear(h, block(layer, "ffn_gate"));
    const std::vector<double> up = linear(h, block(layer, "ffn_up"));
    for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
    const std::vector<double> down = linear(gate, block(layer, "ffn_down"));
    for (size_t i = 0; i < x.size(); ++i) x[i] += down[i];
}

void NaiveSession::compute_logits(std::span<const double> x) {
    const std::string output = model_->tensor("output.weight").empty() ? "token_embd" : "output";
    const std::vector<double> logits = linear(normed(x, "output_norm.weight"), output);
    logits_.assign(logits.begin(), logits.end());
}

}  // namespace fastkv::test
