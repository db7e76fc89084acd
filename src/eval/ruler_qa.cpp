// RULER's questions over documents: qa_1 (SQuAD), qa_2 (HotpotQA), from the files of these data sets.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "eval/ruler_prompts.h"
#include "fastkv/error.h"

namespace fastkv::eval {

namespace {

using Json = nlohmann::json;

// Numbers documents, each text once.
class Documents {
  public:
    size_t number_of(const std::string& text) {
        const auto [at, is_new] = numbers_.emplace(text, texts_.size());
        if (is_new) texts_.push_back(text);
        return at->second;
    }
    std::vector<std::string> take() { return std::move(texts_); }

  private:
    std::map<std::string, size_t> numbers_;
    std::vector<std::string> texts_;
};

void add_article(const Json& article, Documents& documents, QaData& data) {
    std::vector<size_t> numbers;
    for (const Json& paragraph : article.at("paragraphs"))
        numbers.push_back(documents.number_of(paragraph.at("context")));
    for (size_t i = 0; i < numbers.size(); ++i) {
        for (const Json& asked : article.at("paragraphs")[i].at("qas")) {
            if (asked.value("is_impossible", false)) continue;
            QaData::Question question{asked.at("question"), {}, {numbers[i]}, {}};
            for (const Json& answer : asked.at("answers")) question.answers.push_back(answer.at("text"));
            for (const size_t number : numbers) {
                if (number != numbers[i]) question.related.push_back(number);
            }
            if (!question.answers.empty()) data.questions.push_back(std::move(question));
        }
    }
}

void add_hotpot(const Json& row, Documents& documents, QaData& data) {
    QaData::Question question{row.at("question"), {row.at("answer")}, {}, {}};
    for (const Json& document : row.at("context")) {
        std::string text = document.at(0).get<std::string>() + "\n";
        for (const Json& sentence : document.at(1)) text += sentence.get<std::string>();
        question.documents.push_back(documents.number_of(text));
    }
    data.questions.push_back(std::move(question));
}

// Both files are one JSON document; `read` takes it apart.
template <class Read>
QaData read_data(std::string_view content, const std::string& name, const std::string& what, Read read) {
    QaData data;
    Documents documents;
    try {
        read(Json::parse(content), documents, data);
    } catch (const Json::exception&) {
        fail(name + " is no file of " + what);
    }
    if (data.questions.empty()) fail(name + " has no questions with answers");
    data.documents = documents.take();
    return data;
}

std::string qa_task(const QaData& data, const std::vector<size_t>& numbers, const std::string& question) {
    const std::string rule =
        "Answer the question based on the given documents. Only give me the answer and do not output any other words.";
    std::vector<std::string> documents;
    for (size_t i = 0; i < numbers.size(); ++i) {
        documents.push_back("Document " + std::to_string(i + 1) + ":\n" + data.documents[numbers[i]]);
    }
    return rule + "\n\nThe following are given documents.\n\n" + join(documents, "\n\n") + "\n\n" + rule +
           "\n\nQuestion: " + question + " Answer:";
}

}  // namespace

QaData squad_data(std::string_view content, const std::string& name) {
    return read_data(content, name, "SQuAD", [](const Json& json, Documents& documents, QaData& data) {
        for (const Json& article : json.at("data")) add_article(article, documents, data);
    });
}

QaData hotpotqa_data(std::string_view content, const std::string& name) {
    return read_data(content, name, "HotpotQA", [](const Json& json, Documents& documents, QaData& data) {
        for (const Json& row : json) add_hotpot(row, documents, data);
    });
}

RulerPrompt make_qa(const QaData& data, int index, const Fit& fit, Random random) {
    const QaData::Question& question = data.questions[size_t(index) % data.questions.size()];
    // Those with the answer, then related ones, then all others.
    std::vector<size_t> order = question.documents, related = question.related, others;
    shuffle(related, random);
    order.insert(order.end(), related.begin(), related.end());
    std::vector<bool> taken(data.documents.size());
    for (const size_t number : order) taken[number] = true;
    for (size_t i = 0; i < data.documents.size(); ++i) {
        if (!taken[i]) others.push_back(i);
    }
    shuffle(others, random);
    order.insert(order.end(), others.begin(), others.end());
    const Random places(random.next());
    const auto build = [&](int n_documents) {
        std::vector<size_t> numbers(order.begin(), order.begin() + n_documents);
        Random shuffled = places;
        shuffle(numbers, shuffled);
        return qa_task(data, numbers, question.text);
    };
    return {build(fit.largest(int(question.documents.size()), int(order.size()), build)), question.answers};
}

}  // namespace fastkv::eval
