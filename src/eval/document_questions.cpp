#include "eval/document_questions.h"

#include <algorithm>
#include <utility>

#include "eval/random.h"
#include "fastkv/error.h"

namespace fastkv::eval {

DocumentQuestions::DocumentQuestions(DocumentParams params) : params_(std::move(params)) {
    if (params_.documents.empty()) refuse("there is no document to ask about");
    if (params_.questions.empty()) refuse("there is no question: -q TEXT, or --questions FILE with one a line");
}

std::string DocumentQuestions::message(size_t index) const { return document(index).text + "\n\n" + question(index); }

/// A document that has changed, and another question, are another sample.
std::string DocumentQuestions::id(size_t index) const {
    return document(index).name + "@" + hex_text(fnv1a(document(index).text)).substr(0, 8) + ": " + question(index);
}

std::vector<SampleInfo> DocumentQuestions::samples() const {
    size_t count = params_.documents.size() * params_.questions.size();
    if (params_.limit > 0) count = std::min(count, size_t(params_.limit));
    std::vector<SampleInfo> infos;
    for (size_t i = 0; i < count; ++i) {
        infos.push_back({.id = id(i), .n_tokens = double(message(i).size()) / 4, .n_predict = params_.n_predict});
    }
    return infos;
}

Sample DocumentQuestions::make(size_t index) const {
    Sample sample{.id = id(index),
                  .task = document(index).name,
                  .index = int(index % params_.questions.size()),
                  .message = message(index),
                  .references = {},
                  .n_predict = params_.n_predict};
    sample.more["question"] = question(index);
    return sample;
}

}  // namespace fastkv::eval
