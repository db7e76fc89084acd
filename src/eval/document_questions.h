// Questions about a user's own documents, of which nobody knows the right answers: measurements hold methods against
// FullKV's.
#pragma once

#include <string>
#include <vector>

#include "eval/evaluation.h"

namespace fastkv::eval {

struct Document {
    std::string name;  ///< its file's
    std::string text;
};

struct DocumentParams {
    std::vector<Document> documents;
    std::vector<std::string> questions;
    int n_predict = 128;  ///< tokens that an answer may take
    int limit = 0;        ///< of all pairs of document and question the first so many; 0: all
};

/// Every question is asked about every document: the document, then the question, in the model's chat template.
class DocumentQuestions : public Measurement {
  public:
    explicit DocumentQuestions(DocumentParams params);

    Json settings() const override { return {{"n_predict", params_.n_predict}}; }
    std::vector<SampleInfo> samples() const override;
    Sample make(size_t index) const override;

  private:
    const Document& document(size_t index) const { return params_.documents[index / params_.questions.size()]; }
    const std::string& question(size_t index) const { return params_.questions[index % params_.questions.size()]; }
    std::string message(size_t index) const;
    std::string id(size_t index) const;

    DocumentParams params_;
};

}  // namespace fastkv::eval
