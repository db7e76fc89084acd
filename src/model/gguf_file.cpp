// ggml's reader parses; what it would abort on, and where the file ends, is checked around it.
#include "model/gguf_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <unordered_map>
#include <utility>

#include "fastkv/error.h"
#include "ggml.h"
#include "gguf.h"
#include "model/log.h"
#include "model/memory.h"

namespace fastkv {

namespace {

/// A file mapped read-only for as long as the object lives.
class Mapping {
  public:
    explicit Mapping(const std::string& path) {
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            fail(errno == ENOENT ? "no such file: " + path : path + ": cannot open: " + std::strerror(errno));
        }
        struct stat info {};
        const bool known = fstat(fd, &info) == 0;
        if (known && S_ISREG(info.st_mode) && info.st_size > 0) {
            size_ = static_cast<uint64_t>(info.st_size);
            void* address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
            if (address != MAP_FAILED) data_ = address;
        }
        const int error = errno;
        close(fd);
        if (data_) return;
        if (known && S_ISDIR(info.st_mode)) fail(path + ": is a directory, a GGUF file is needed");
        if (known && !S_ISREG(info.st_mode)) fail(path + ": is not a regular file");
        if (known && info.st_size == 0) fail(path + ": the file is empty");
        fail(path + ": cannot map the file into memory: " + std::strerror(error));
    }
    ~Mapping() {
        if (data_) munmap(data_, size_);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    const uint8_t* bytes() const { return static_cast<const uint8_t*>(data_); }
    uint64_t size() const { return size_; }
    void will_need() const { madvise(data_, size_, MADV_WILLNEED); }

  private:
    void* data_ = nullptr;
    uint64_t size_ = 0;
};

/// Magic and version, so that the commonest mistakes get their own words.
void check_beginning(const std::string& path, const Mapping& mapping) {
    if (mapping.size() < 4 || std::memcmp(mapping.bytes(), GGUF_MAGIC, 4) != 0) {
        fail(path + ": not a GGUF file (it does not begin with \"GGUF\")");
    }
    if (mapping.size() < 24) fail(path + ": truncated: the file ends inside the GGUF header");
    uint32_t version = 0;
    std::memcpy(&version, mapping.bytes() + 4, 4);
    if ((version & 0xffff) == 0 && version != 0) {
        fail(path + ": a GGUF file of the other byte order (convert it on this kind of machine)");
    }
    if (version < 2 || version > GGUF_VERSION) {
        fail(path + ": GGUF version " + std::to_string(version) + " is not supported (versions 2 to " +
             std::to_string(GGUF_VERSION) + " are)");
    }
}

/// Why ggml's reader gave up, in one line. It has no word of its own for a file that ends too early.
std::string reading_error(const std::string& path, const LogCapture& log) {
    const std::string reason = log.first_error();
    const bool ended = log.text().find("exceeds remaining file size") != std::string::npos ||
                       reason.rfind("failed to read", 0) == 0 || reason.rfind("failed to seek", 0) == 0;
    if (ended) return path + ": truncated or damaged GGUF file: it ends too early (" + reason + ")";
    return path + ": damaged GGUF file: " + (reason.empty() ? "it cannot be read" : reason);
}

struct GgufFree {
    void operator()(gguf_context* context) const { gguf_free(context); }
};
struct GgmlFree {
    void operator()(ggml_context* context) const { ggml_free(context); }
};
using GgufPointer = std::unique_ptr<gguf_context, GgufFree>;
using GgmlPointer = std::unique_ptr<ggml_context, GgmlFree>;

GgufPointer parse(const std::string& path, ggml_context** tensors) {
    LogCapture log;
    try {
        gguf_init_params params{/*no_alloc=*/true, /*ctx=*/tensors};
        GgufPointer result(gguf_init_from_file(path.c_str(), params));
        if (!result) fail(reading_error(path, log));
        return result;
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {  // counts that no memory can hold
        fail(path + ": damaged GGUF file: " + error.what());
    }
}

const char* type_name(gguf_type type) {
    const char* name = gguf_type_name(type);
    return name ? name : "of an unknown type";
}

}  // namespace

struct GgufFile::Impl {
    std::string path;
    Mapping mapping;
    GgufPointer gguf;
    GgmlPointer tensors;
    std::vector<const ggml_tensor*> by_index;          // [n_tensors] in the file's order
    std::unordered_map<std::string, int64_t> by_name;  // -> index

    explicit Impl(const std::string& file_path) : path(file_path), mapping(file_path) {
        check_beginning(path, mapping);
        // Twice: without tensors first, because ggml aborts on shapes that only the size check below finds
        // out.
        gguf = parse(path, nullptr);
        check_tensors();
        check_split();
        ggml_context* context = nullptr;
        gguf = parse(path, &context);
        tensors.reset(context);
        check_tensors();  // the file may have been changed in between
        for (ggml_tensor* t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) {
            by_name.emplace(t->name, static_cast<int64_t>(by_index.size()));
            by_index.push_back(t);
        }
        if (static_cast<int64_t>(by_index.size()) != gguf_get_n_tensors(gguf.get())) {
            fail(path + ": damaged GGUF file: its tensors do not add up");
        }
        mapping.will_need();
    }

    uint64_t offset(int64_t index) const {
        return gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), index);
    }

    /// Every tensor has elements and lies inside the file.
    void check_tensors() const {
        const uint64_t start = gguf_get_data_offset(gguf.get());
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); ++i) {
            const std::string name = gguf_get_tensor_name(gguf.get(), i);
            const uint64_t at = gguf_get_tensor_offset(gguf.get(), i), bytes = gguf_get_tensor_size(gguf.get(), i);
            if (bytes == 0) fail(path + ": damaged GGUF file: tensor " + name + " has no elements");
            const bool inside =
                start <= mapping.size() && at <= mapping.size() - start && bytes <= mapping.size() - start - at;
            if (!inside) {
                fail(path + ": truncated or damaged GGUF file: tensor " + name + " (" + std::to_string(bytes) +
                     " bytes) lies past the end of the file (" + std::to_string(mapping.size()) +
                     " bytes); fetch the file again");
            }
        }
    }

    /// Files in parts are not put together here.
    void check_split() const {
        const int64_t id = gguf_find_key(gguf.get(), "split.count");
        if (id < 0) return;
        const gguf_type type = gguf_get_kv_type(gguf.get(), id);
        if (type == GGUF_TYPE_UINT16 && gguf_get_val_u16(gguf.get(), id) <= 1) return;
        fail(path +
             ": one part of a model split over several files, which is not supported: merge the parts with "
             "llama-gguf-split --merge");
    }

    int64_t find(const std::string& key) const { return gguf_find_key(gguf.get(), key.c_str()); }

    [[noreturn]] void wrong_type(const std::string& key, int64_t id, const char* wanted) const {
        fail(path + ": key " + key + " should be " + wanted + " but is " + type_name(gguf_get_kv_type(gguf.get(), id)));
    }
};

GgufFile::GgufFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
GgufFile::~GgufFile() = default;
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;

const std::string& GgufFile::path() const { return impl_->path; }
uint64_t GgufFile::size() const { return impl_->mapping.size(); }
const void* GgufFile::mapping() const { return impl_->mapping.bytes(); }

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
    const gguf_context* gguf = impl_->gguf.get();
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(gguf, id)) {
        case GGUF_TYPE_UINT8: return gguf_get_val_u8(gguf, id);
        case GGUF_TYPE_INT8: return gguf_get_val_i8(gguf, id);
        case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf, id);
        case GGUF_TYPE_INT16: return gguf_get_val_i16(gguf, id);
        case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf, id);
        case GGUF_TYPE_INT32: return gguf_get_val_i32(gguf, id);
        case GGUF_TYPE_INT64: return gguf_get_val_i64(gguf, id);
        case GGUF_TYPE_UINT64: {
            const uint64_t value = gguf_get_val_u64(gguf, id);
            if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
                fail(path() + ": key " + key + " is out of range: " + std::to_string(value));
            }
            return static_cast<int64_t>(value);
        }
        default: impl_->wrong_type(key, id, "an integer");
    }
}

std::optional<double> GgufFile::real(const std::string& key) const {
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(impl_->gguf.get(), id)) {
        case GGUF_TYPE_FLOAT32: return gguf_get_val_f32(impl_->gguf.get(), id);
        case GGUF_TYPE_FLOAT64: return gguf_get_val_f64(impl_->gguf.get(), id);
        default: impl_->wrong_type(key, id, "a real number");
    }
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(impl_->gguf.get(), id) != GGUF_TYPE_BOOL) impl_->wrong_type(key, id, "true or false");
    return gguf_get_val_bool(impl_->gguf.get(), id);
}

std::optional<std::string> GgufFile::string(const std::string& key) const {
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(impl_->gguf.get(), id) != GGUF_TYPE_STRING) impl_->wrong_type(key, id, "a string");
    return gguf_get_val_str(impl_->gguf.get(), id);
}

bool GgufFile::is_array(const std::string& key) const {
    const int64_t id = impl_->find(key);
    return id >= 0 && gguf_get_kv_type(impl_->gguf.get(), id) == GGUF_TYPE_ARRAY;
}

std::optional<int64_t> GgufFile::array_size(const std::string& key) const {
    if (!is_array(key)) return std::nullopt;
    return static_cast<int64_t>(gguf_get_arr_n(impl_->gguf.get(), impl_->find(key)));
}

std::optional<std::vector<int64_t>> GgufFile::integers(const std::string& key) const {
    const gguf_context* gguf = impl_->gguf.get();
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    if (!is_array(key)) impl_->wrong_type(key, id, "an array of integers");
    const size_t n = gguf_get_arr_n(gguf, id);
    const gguf_type type = gguf_get_arr_type(gguf, id);
    if (type != GGUF_TYPE_INT32 && type != GGUF_TYPE_UINT32) {
        fail(path() + ": key " + key + " should be an array of integers but is one of " + type_name(type));
    }
    std::vector<int64_t> result(n);
    const void* data = n > 0 ? gguf_get_arr_data(gguf, id) : nullptr;
    for (size_t i = 0; i < n; ++i) {
        result[i] = type == GGUF_TYPE_INT32 ? int64_t{static_cast<const int32_t*>(data)[i]}
                                            : int64_t{static_cast<const uint32_t*>(data)[i]};
    }
    return result;
}

std::optional<std::vector<std::string_view>> GgufFile::strings(const std::string& key) const {
    const gguf_context* gguf = impl_->gguf.get();
    const int64_t id = impl_->find(key);
    if (id < 0) return std::nullopt;
    if (!is_array(key) || gguf_get_arr_type(gguf, id) != GGUF_TYPE_STRING) {
        impl_->wrong_type(key, id, "an array of strings");
    }
    std::vector<std::string_view> result(gguf_get_arr_n(gguf, id));
    for (size_t i = 0; i < result.size(); ++i) result[i] = gguf_get_arr_str(gguf, id, i);
    return result;
}

int64_t GgufFile::require_integer(const std::string& key) const {
    if (const auto value = integer(key)) return *value;
    fail(path() + ": key " + key + " is missing");
}

double GgufFile::require_real(const std::string& key) const {
    if (const auto value = real(key)) return *value;
    fail(path() + ": key " + key + " is missing");
}

std::string GgufFile::require_string(const std::string& key) const {
    if (auto value = string(key)) return *std::move(value);
    fail(path() + ": key " + key + " is missing");
}

const ggml_tensor* GgufFile::tensor(const std::string& name) const {
    const auto found = impl_->by_name.find(name);
    return found == impl_->by_name.end() ? nullptr : tensor_at(found->second);
}

const void* GgufFile::tensor_data(const std::string& name) const {
    const auto found = impl_->by_name.find(name);
    if (found == impl_->by_name.end()) fail(path() + ": tensor " + name + " is missing");
    return impl_->mapping.bytes() + impl_->offset(found->second);
}

void GgufFile::forget(const std::string& key) { gguf_remove_key(impl_->gguf.get(), key.c_str()); }

void GgufFile::release(const std::string& name) const { give_back_pages(tensor_data(name), ggml_nbytes(tensor(name))); }

void GgufFile::release() const { give_back_pages(mapping(), size()); }

int64_t GgufFile::n_tensors() const { return static_cast<int64_t>(impl_->by_index.size()); }

const ggml_tensor* GgufFile::tensor_at(int64_t index) const { return impl_->by_index.at(static_cast<size_t>(index)); }

}  // namespace fastkv
