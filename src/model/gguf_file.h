// A GGUF file, memory-mapped, its keys read with their types checked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct ggml_context;
struct ggml_tensor;
struct gguf_context;

namespace fastkv {

/// Opened read-only and mapped for as long as the object lives. Every error names the file, and the key or
/// tensor.
class GgufFile {
  public:
    /// Throws Error(failure): no such file, not a GGUF, an unsupported version, truncated (tensor data past
    /// the end of the file), damaged.
    explicit GgufFile(const std::string& path);
    ~GgufFile();
    GgufFile(GgufFile&&) noexcept;
    GgufFile& operator=(GgufFile&&) noexcept;

    const std::string& path() const;
    uint64_t size() const;  ///< bytes of the file

    // Values by key; nullopt where the key is absent, Error(failure) where it has another type or does not
    // fit.
    std::optional<int64_t> integer(const std::string& key) const;
    std::optional<double> real(const std::string& key) const;
    std::optional<bool> boolean(const std::string& key) const;
    std::optional<std::string> string(const std::string& key) const;

    /// Number of elements of an array; nullopt where there is no such array.
    std::optional<int64_t> array_size(const std::string& key) const;

    // Whole arrays; nullopt where the key is absent, Error(failure) where it is something else.
    std::optional<std::vector<int64_t>> integers(const std::string& key) const;
    std::optional<std::vector<std::string_view>> strings(const std::string& key) const;
    bool is_array(const std::string& key) const;  ///< false where the key is absent

    // The same, but a missing key is an Error(failure).
    int64_t require_integer(const std::string& key) const;
    double require_real(const std::string& key) const;
    std::string require_string(const std::string& key) const;

    /// Says that a key's value has been used: its memory is freed, and the key is absent from now on. Of a vocabulary
    /// that is several megabytes.
    void forget(const std::string& key);

    /// The tensor's description (type, shape; no data pointer), or nullptr.
    const ggml_tensor* tensor(const std::string& name) const;

    /// First byte of the tensor in the mapping. The whole tensor lies inside the file.
    const void* tensor_data(const std::string& name) const;

    /// Says that the tensor's bytes have been copied: the mapping gives its pages back, and reads them anew if they are
    /// wanted again.
    void release(const std::string& name) const;

    /// The same for the whole file: also the pages that tensors share, and those that came along with them.
    void release() const;

    /// All tensors, for counting: call `visit(const ggml_tensor&)` on each.
    template <class F>
    void for_each_tensor(F visit) const {
        for (int64_t i = 0; i < n_tensors(); ++i) visit(*tensor_at(i));
    }
    int64_t n_tensors() const;
    const ggml_tensor* tensor_at(int64_t index) const;

    /// The mapping itself, for backends that can use weights in place.
    const void* mapping() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fastkv
