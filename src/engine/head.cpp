#include "engine/head.h"

#include <algorithm>

#include "engine/kernel_choice.h"
#include "engine/layer_graph.h"

namespace fastkv {

void embed(const Weights& weights, std::span<const Token> tokens, float* rows) {
    const ggml_tensor* table = weights.token_embd;
    const int64_t n_embd = table->ne[0];
    for (size_t i = 0; i < tokens.size(); ++i) {
        const char* entry = static_cast<const char*>(table->data) + size_t(tokens[i]) * table->nb[1];
        dequantize(table->type, entry, rows + i * size_t(n_embd), n_embd);
    }
}

Head::Head(const Model::Impl& model) : model_(model), allocator_(new_graph_allocator(device())) {}

void Head::run(std::span<const float> rows, std::span<float> logits) {
    const HyperParams& hp = model_.hparams;
    if (!graph_ || rows.size() != rows_.size()) {
        rows_.resize(rows.size());
        graph_ = std::make_unique<Graph>(device(), allocator_.get(), 16);
        ggml_tensor* x = graph_->input(GGML_TYPE_F32, {hp.n_embd, int64_t(rows.size()) / hp.n_embd}, rows_.data());
        logits_ = build_head(*graph_, hp, x, model_.weights.output_norm, make_linear(device(), model_.weights.output));
        graph_->output(logits_);
    }
    std::copy(rows.begin(), rows.end(), rows_.begin());
    graph_->run();
    graph_->read(logits_, logits.data());
}

void Head::run_each(std::span<const float> rows, const LogitsCallback& take) const {
    const HyperParams& hp = model_.hparams;
    const int n_rows = int(rows.size()) / hp.n_embd;
    ggml_gallocr_ptr allocator = new_graph_allocator(device());
    const KernelChoice choice = choose_kernels(device(), model_.params.compute);
    ExpandedWeights expanded(choice.gemm, allocator.get(), nullptr);
    Linear output = make_linear(device(), model_.weights.output);
    if (choice.packed_linear && n_rows >= min_rows_to_expand(choice)) {
        Linear* linears[] = {&output};
        expanded.expand(device(), linears);
    }
    std::vector<float> logits;  // [rows of the chunk][n_vocab]
    for (int first = 0; first < n_rows; first += chunk_rows) {
        const int n = std::min(chunk_rows, n_rows - first);
        Graph graph(device(), allocator.get(), 16);
        ggml_tensor* x = graph.input(GGML_TYPE_F32, {hp.n_embd, n}, rows.data() + size_t(first) * size_t(hp.n_embd));
        ggml_tensor* y = build_head(graph, hp, x, model_.weights.output_norm, output);
        graph.output(y);
        graph.run();
        logits.resize(size_t(n) * size_t(hp.n_vocab));
        graph.read(y, logits.data());
        take(first, logits);
    }
}

}  // namespace fastkv
