// What settings are called on the page, and what they are drawn in: the same name and look everywhere.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plot/chart.h"
#include "report/results.h"

namespace fastkv::report {

struct SettingLook {
    std::string name;     ///< short, as fastkv eval writes it
    plot::Paint paint;    ///< a method has one colour, FullKV that of the text
    plot::Marker marker;  ///< settings of one method differ in it
    bool dashed;
};

class SettingNames {
  public:
    /// Of all settings of all models: a short name means one setting on the whole page.
    explicit SettingNames(const Results& results);

    const SettingLook& look(const std::string& setting) const { return looks_.at(setting); }
    const std::string& name(const std::string& setting) const { return look(setting).name; }

    /// All settings, in the order of their methods.
    const std::vector<std::string>& settings() const { return settings_; }

    /// Where a setting stands in that order.
    size_t place(const std::string& setting) const;

  private:
    void add(const std::string& setting);
    void name_all();

    std::vector<std::string> settings_;
    std::map<std::string, SettingLook> looks_;
};

/// What settings are called in pictures, which have little room: by what they differ in among themselves.
class PictureNames {
  public:
    static constexpr size_t most = 40;  ///< bytes of a name

    /// Rows of an evaluation or a benchmark, each with its setting.
    template <class Row>
    explicit PictureNames(const std::vector<Row>& rows) {
        std::vector<std::string> settings;
        for (const Row& row : rows) settings.push_back(row.setting);
        name_all(settings);
    }
    /// Such rows under keys.
    template <class Key, class Row>
    explicit PictureNames(const std::map<Key, std::vector<Row>>& groups) {
        std::vector<std::string> settings;
        for (const auto& [key, rows] : groups) {
            for (const Row& row : rows) settings.push_back(row.setting);
        }
        name_all(settings);
    }

    const std::string& of(const std::string& setting) const { return names_.at(setting); }

  private:
    void name_all(const std::vector<std::string>& settings);

    std::map<std::string, std::string> names_;
};

}  // namespace fastkv::report
