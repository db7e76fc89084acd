// Numbers, texts and lists one after another, as they lie in memory; the same call writes and reads a struct's members.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace fastkv {

class ByteWriter {
  public:
    template <class... T>
    void operator()(const T&... values) {
        (add(values), ...);
    }
    std::vector<std::byte> take() { return std::move(bytes_); }
    void reserve(size_t bytes) { bytes_.reserve(bytes); }
    size_t size() const { return bytes_.size(); }

  private:
    void add_raw(const void* data, size_t size) {
        const auto* from = static_cast<const std::byte*>(data);
        bytes_.insert(bytes_.end(), from, from + size);
    }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    void add(const T& number) { add_raw(&number, sizeof number); }
    void add(const std::string& text) {
        add(uint64_t{text.size()});
        add_raw(text.data(), text.size());
    }
    template <class T>
    void add(const std::vector<T>& list) {
        add(uint64_t{list.size()});
        if constexpr (std::is_trivially_copyable_v<T>) {
            add_raw(list.data(), list.size() * sizeof(T));
        } else {
            for (const T& item : list) add(item);
        }
    }

    std::vector<std::byte> bytes_;
};

/// Past the end it reads zeros and empty lists, and says so at the end.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}

    template <class... T>
    void operator()(T&... values) {
        (read(values), ...);
    }
    /// Whether all bytes were read, and there were enough.
    bool at_end() const { return left_.empty() && !short_; }

  private:
    void read_raw(void* data, size_t size) {
        if (size > 0) std::memcpy(data, left_.data(), size);
        left_ = left_.subspan(size);
    }
    bool has(uint64_t n, size_t size) {
        short_ = short_ || n > left_.size() / size;
        return !short_;
    }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    void read(T& number) {
        number = T{};
        if (has(1, sizeof number)) read_raw(&number, sizeof number);
    }
    void read(std::string& text) {
        uint64_t size = 0;
        read(size);
        text.resize(has(size, 1) ? size_t(size) : 0);
        read_raw(text.data(), text.size());
    }
    template <class T>
    void read(std::vector<T>& list) {
        uint64_t size = 0;
        read(size);
        if constexpr (std::is_trivially_copyable_v<T>) {
            list.resize(has(size, sizeof(T)) ? size_t(size) : 0);
            read_raw(list.data(), list.size() * sizeof(T));
        } else {
            // an item takes at least the count of its own list
            list.resize(has(size, sizeof(uint64_t)) ? size_t(size) : 0);
            for (T& item : list) read(item);
        }
    }

    std::span<const std::byte> left_;
    bool short_ = false;
};

}  // namespace fastkv
