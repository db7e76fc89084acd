#include "server/session_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "text/format.h"

namespace fastkv::server {

namespace {

namespace fs = std::filesystem;

constexpr const char* spill_folder = "/.spilled";

std::string key_of(const MethodParams& method, const std::string& document_id) {
    return method_text(method) + "\n" + document_id;
}

size_t common_prefix(const std::vector<Token>& a, const std::vector<Token>& b) {
    return size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

bool begins_with(const std::vector<Token>& tokens, const std::vector<Token>& beginning) {
    return common_prefix(tokens, beginning) == beginning.size();
}

void warn(const std::string& message) { std::fprintf(stderr, "fastkv: %s\n", message.c_str()); }

std::string new_file_name() {
    thread_local std::mt19937_64 random(std::random_device{}());
    return text::format("%016llx.session", static_cast<unsigned long long>(random()));
}

uint64_t file_bytes(const std::string& path) {
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    return error ? 0 : bytes;
}

/// Whether the method would cache every token of the prompt.
bool caches_all(const Model& model, const Wanted& wanted) {
    const SessionParams same_types{.n_predict = 1, .cache_type_k = CacheType::f16, .cache_type_v = CacheType::f16};
    const auto bytes = [&](const MethodParams& method) {
        return estimate(model, method, int(wanted.prompt.size()), same_types).kv_cache_bytes;
    };
    return bytes(wanted.method) >= bytes({.method = "fullkv"});
}

uint64_t bytes_in_memory(const Session& session) { return std::max(session.bytes(), session.memory().kv_cache_bytes); }

}  // namespace

SessionStore::SessionStore(const Model& model, const SessionParams& session, const StoreParams& params)
    : model_(model), session_(session), params_(params) {
    session_.n_predict = 1;  // nobody goes on from a stored session itself
    if (!has_folder()) return;
    open_folder();
    find_files(params_.folder, /*spilled=*/false);
    find_files(params_.folder + spill_folder, /*spilled=*/true);
    limit_disk();
    writer_ = std::thread([this] { write_until_the_end(); });
}

SessionStore::~SessionStore() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_one();
    if (writer_.joinable()) writer_.join();
    if (lock_fd_ >= 0) close(lock_fd_);
}

// ---- the folder -------------------------------------------------------------------------------------------------

void SessionStore::open_folder() {
    std::error_code error;
    fs::create_directories(params_.folder + spill_folder, error);
    if (error) fail("--session-dir " + params_.folder + ": " + error.message());
    const std::string path = params_.folder + "/.lock";
    lock_fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd_ < 0) fail("--session-dir " + params_.folder + ": cannot write: " + std::strerror(errno));
    if (flock(lock_fd_, LOCK_EX | LOCK_NB) == 0) return;
    close(std::exchange(lock_fd_, -1));
    fail("--session-dir " + params_.folder + ": another server uses it");
}

/// The sessions of a folder, those used last first. What a server that was killed had not finished is removed; what is
/// no session of this model is left alone.
void SessionStore::find_files(const std::string& folder, bool spilled) {
    std::vector<std::pair<fs::file_time_type, std::string>> files;
    for (const fs::directory_entry& file : fs::directory_iterator(folder)) {
        const std::string name = file.path().filename().string();
        std::error_code error;
        if (name.starts_with(".") && name.ends_with(".part")) fs::remove(file.path(), error);
        if (!name.starts_with(".") && file.is_regular_file(error)) {
            files.emplace_back(file.last_write_time(error), file.path().string());
        }
    }
    std::sort(files.rbegin(), files.rend());
    for (const auto& [time, path] : files) {
        try {
            SessionFileInfo info = inspect_session(path);
            if (info.model_hash != model_.hash()) continue;
            entries_.push_back({.id = next_id_++,
                                .key = key_of(info.method, info.note),
                                .document_id = info.note,
                                .tokens = std::move(info.tokens),
                                .rewindable_to = info.rewindable_to,
                                .session = nullptr,
                                .bytes = file_bytes(path),
                                .path = path,
                                .spilled = spilled});
        } catch (const Error& error) {
            warn(std::string(error.what()) + "; left as it is");
        }
    }
}

// ---- finding ----------------------------------------------------------------------------------------------------

/// The session from which the most of the prompt need not be read. Of a compressed one only tokens that it can be
/// rewound to count. Where the method would drop tokens of the prompt, the rest of it, which is cached whole, may not
/// be longer than what is spared: else the prompt is better read, and compressed, anew. Of a long session, which is
/// copied whole, a few tokens do not count.
SessionStore::Entries::iterator SessionStore::best_match(const Wanted& wanted, const std::string& key,
                                                         size_t& n_common) {
    const bool keeps_all = caches_all(model_, wanted);
    auto best = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        if (entry->key != key) continue;
        const size_t n = common_prefix(entry->tokens, wanted.prompt);
        const bool of_document = !wanted.document_id.empty() && entry->rewindable_to > 1;
        const bool spares = keeps_all || of_document || n >= wanted.prompt.size() - n;
        constexpr size_t copies = 32;  // tokens are copied in less than the time in which one is read
        const bool possible = n >= size_t(entry->rewindable_to) && n * copies >= entry->tokens.size();
        if (n <= n_common || !possible || !spares) continue;
        best = entry;
        n_common = n;
    }
    return best;
}

std::optional<Session> SessionStore::find(const Wanted& wanted) {
    std::unique_lock lock(mutex_);
    size_t n = 0;
    const auto entry = best_match(wanted, key_of(wanted.method, wanted.document_id), n);
    if (entry == entries_.end()) return {};
    const auto stored = session_of(entry->id, lock);
    lock.unlock();
    if (!stored) return {};

    Session session = stored->fork(wanted.n_predict + int(wanted.prompt.size() - n));
    if (int(n) < session.rewindable_to()) return {};  // its file said something else
    session.rewind(int(n));
    if (n < wanted.prompt.size() || !session.logits().empty()) return session;
    // it stops where nobody had looked: its last token is read again
    if (int(n) <= session.rewindable_to()) return {};
    session.rewind(int(n) - 1);
    return session;
}

/// The session itself, read from its file where it has to be, and now the one used last. nullptr where that fails.
std::shared_ptr<const Session> SessionStore::session_of(uint64_t id, std::unique_lock<std::mutex>& lock) {
    auto entry = find_entry(id);
    if (entry == entries_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, entry);
    if (entry->session) return entry->session;
    const std::string path = entry->path;
    const std::vector<Token> tokens = entry->tokens;
    std::shared_ptr<const Session> session;
    std::string problem;
    lock.unlock();
    try {
        Session loaded = Session::load(model_, path, session_);
        if (!std::ranges::equal(loaded.tokens(), tokens)) fail(path + ": has become another session");
        session = std::make_shared<const Session>(std::move(loaded));
    } catch (const std::exception& error) {
        problem = error.what();
    }
    lock.lock();
    entry = find_entry(id);
    if (!session) warn(problem + "; left as it is");
    if (entry == entries_.end()) return session;  // given up meanwhile
    if (!session) {
        entries_.erase(entry);
    } else if (!entry->session) {
        entry->session = session;
        entry->bytes = bytes_in_memory(*session);
        in_memory_ += entry->bytes;
        drop_what_nothing_writes();
    }
    return session;
}

SessionStore::Entries::iterator SessionStore::find_entry(uint64_t id) {
    return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.id == id; });
}

// ---- keeping ----------------------------------------------------------------------------------------------------

uint64_t SessionStore::add(Session session, const std::string& document_id) {
    const bool roomy = session.memory().kv_cache_bytes > 2 * session.bytes();
    if (roomy) session = session.fork(1);  // room for an answer is better given to another session
    Entry entry{.key = key_of(session.method(), document_id),
                .document_id = document_id,
                .tokens = {session.tokens().begin(), session.tokens().end()},
                .rewindable_to = session.rewindable_to(),
                .session = nullptr,
                .bytes = bytes_in_memory(session),
                .path = ""};
    entry.session = std::make_shared<const Session>(std::move(session));
    const std::lock_guard lock(mutex_);
    return insert(std::move(entry));
}

uint64_t SessionStore::insert(Entry entry) {
    give_up_ancestors(entry);
    entry.id = next_id_++;
    in_memory_ += entry.bytes;
    entries_.push_front(std::move(entry));
    const uint64_t id = entries_.front().id;
    drop_what_nothing_writes();
    return id;
}

/// Sessions that can do nothing that this one cannot. Files that somebody saved stay.
void SessionStore::give_up_ancestors(const Entry& entry) {
    for (auto other = entries_.begin(); other != entries_.end();) {
        const auto next = std::next(other);
        const bool ancestor = other->key == entry.key && entry.rewindable_to <= other->rewindable_to &&
                              begins_with(entry.tokens, other->tokens);
        if (ancestor && (other->path.empty() || other->spilled)) give_up(other);
        other = next;
    }
}

void SessionStore::give_up(Entries::iterator entry) {
    if (entry->session) in_memory_ -= entry->bytes;
    if (entry->spilled && !entry->path.empty()) unlink(entry->path.c_str());
    entries_.erase(entry);
}

/// A session that has a file is in that alone from now on.
void SessionStore::leave_memory(Entry& entry) {
    in_memory_ -= entry.bytes;
    entry.session.reset();
    entry.bytes = file_bytes(entry.path);
}

SessionStore::Entries::iterator SessionStore::oldest_in_memory() {
    const auto found = std::find_if(entries_.rbegin(), entries_.rend(),
                                    [](const Entry& entry) { return entry.session && !entry.writing; });
    return found == entries_.rend() ? entries_.end() : std::prev(found.base());
}

/// Brings the memory within the budget as far as that costs nothing: sessions that have a file leave memory, and
/// without a folder the oldest are given up. The rest is the writer's; if it falls far behind, sessions are lost.
void SessionStore::drop_what_nothing_writes() {
    for (auto entry = entries_.end(); entry != entries_.begin() && in_memory_ > memory_limit();) {
        --entry;
        if (entry->session && !entry->path.empty() && !entry->writing) leave_memory(*entry);
    }
    constexpr uint64_t behind = uint64_t{64} << 20;  // bytes, besides as much again as is allowed
    const uint64_t most = has_folder() ? 2 * memory_limit() + behind : memory_limit();
    while (in_memory_ > most) {
        const auto oldest = oldest_in_memory();
        if (oldest == entries_.end()) break;
        give_up(oldest);
    }
    if (in_memory_ > memory_limit()) wake_.notify_one();
}

// ---- the writer -------------------------------------------------------------------------------------------------

void SessionStore::write_until_the_end() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return ending_ || in_memory_ > memory_limit(); });
        if (in_memory_ <= memory_limit()) return;
        spill(lock);
    }
}

/// Moves the session that was used longest ago to a file.
void SessionStore::spill(std::unique_lock<std::mutex>& lock) {
    const auto oldest = oldest_in_memory();
    const uint64_t id = oldest->id;
    const auto session = oldest->session;
    const bool written = !oldest->path.empty();
    const std::string path = written ? oldest->path : params_.folder + spill_folder + "/" + new_file_name();
    const std::string document_id = oldest->document_id;
    oldest->writing = true;
    lock.unlock();
    std::string problem;
    try {
        if (!written) session->save(path, document_id);
    } catch (const std::exception& error) {
        problem = error.what();
    }
    lock.lock();
    const auto entry = find_entry(id);
    if (entry == entries_.end()) {  // given up meanwhile
        if (!written) unlink(path.c_str());
        return;
    }
    entry->writing = false;
    if (!problem.empty()) {
        warn(problem + "; a session is lost");
        give_up(entry);
        return;
    }
    entry->path = path;
    entry->spilled = entry->spilled || !written;
    leave_memory(*entry);
    limit_disk();
}

/// Removes the spilled files that were used longest ago.
void SessionStore::limit_disk() {
    uint64_t on_disk = 0;
    for (auto entry = entries_.begin(); entry != entries_.end();) {
        const auto next = std::next(entry);
        if (entry->spilled && !entry->session) on_disk += entry->bytes;
        if (entry->spilled && !entry->session && on_disk > params_.disk_bytes) {
            on_disk -= entry->bytes;
            give_up(entry);
        }
        entry = next;
    }
}

// ---- what clients save and restore ------------------------------------------------------------------------------

std::optional<SessionStore::File> SessionStore::save(uint64_t id, const std::string& name) {
    std::unique_lock lock(mutex_);
    const auto session = session_of(id, lock);
    const auto entry = find_entry(id);
    if (!session || entry == entries_.end()) return {};
    const std::string document_id = entry->document_id;
    const std::string path = params_.folder + "/" + name;
    std::erase_if(entries_, [&](const Entry& other) { return other.path == path && !other.session; });
    lock.unlock();
    session->save(path, document_id);
    return File{int(session->tokens().size()), file_bytes(path)};
}

SessionStore::File SessionStore::restore(const std::string& name, uint64_t& id) {
    const std::string path = params_.folder + "/" + name;
    Session session = Session::load(model_, path, session_);
    const File file{int(session.tokens().size()), file_bytes(path)};
    id = add(std::move(session), inspect_session(path).note);
    return file;
}

std::optional<int> SessionStore::erase(uint64_t id) {
    const std::lock_guard lock(mutex_);
    const auto entry = find_entry(id);
    if (entry == entries_.end()) return {};
    const int n_tokens = int(entry->tokens.size());
    give_up(entry);
    return n_tokens;
}

std::pair<int, uint64_t> SessionStore::usage() const {
    const std::lock_guard lock(mutex_);
    return {int(entries_.size()), in_memory_};
}

}  // namespace fastkv::server
