#include "cli/number_list.h"

#include <cstdint>
#include <sstream>

#include "methods/values.h"

namespace fastkv::cli {

namespace {

constexpr size_t max_numbers = 1000;

struct Range {
    int64_t first = 0, last = 0;
    char step_kind = '+';  // or '*'
    int64_t step = 1;
};

// "first", "first-last", "first-last+step" or "first-last*factor".
Range parse_range(const std::string& flag, const std::string& item, const std::string& kind, int least, int most) {
    const auto number = [&](const std::string& text) { return int64_t{whole_number(flag, text, kind)}; };
    const auto limited = [&](const std::string& text) { return int64_t{whole_number(flag, text, kind, least, most)}; };
    const size_t hyphen = item.find('-', 1);  // one in front is a sign
    if (hyphen == std::string::npos) return {limited(item), limited(item)};
    const size_t sign = item.find_first_of("+*", hyphen);
    Range range{limited(item.substr(0, hyphen)), limited(item.substr(hyphen + 1, sign - hyphen - 1))};
    if (sign != std::string::npos) {
        range.step_kind = item[sign];
        range.step = number(item.substr(sign + 1));
    }
    if (range.last < range.first) refuse(flag + " " + item + " ends before it begins");
    const bool stands_still =
        range.step_kind == '+' ? range.step < 1 : range.step < 2 || (range.first == 0 && range.last > 0);
    if (stands_still) refuse(flag + " " + item + " does not get from one number to the next");
    return range;
}

}  // namespace

int whole_number(const std::string& flag, const std::string& text, const std::string& kind, int least, int most) {
    const int n = parse_number<int>(flag, text, kind);
    if (n < least) refuse(flag + " " + text + " is too small: at least " + std::to_string(least));
    if (n > most) refuse(flag + " " + text + " is too large: at most " + std::to_string(most));
    return n;
}

std::vector<int> parse_number_list(const std::string& flag, const std::string& text, const std::string& kind, int least,
                                   int most) {
    std::vector<int> numbers;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        const Range range = parse_range(flag, item, kind, least, most);
        for (int64_t n = range.first; n <= range.last; n = range.step_kind == '+' ? n + range.step : n * range.step) {
            if (numbers.size() == max_numbers)
                refuse(flag + " " + text + " are more than a thousand numbers; 1000-8000+1000 has a step");
            numbers.push_back(int(n));
        }
    }
    if (numbers.empty()) refuse(flag + " needs numbers, such as 1000,4000");
    return numbers;
}

}  // namespace fastkv::cli
