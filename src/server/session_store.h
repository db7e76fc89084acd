// Sessions that have been answered, kept for requests that go on from them: in memory up to a budget, past it in files.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fastkv/fastkv.h"

namespace fastkv::server {

struct StoreParams {
    uint64_t memory_bytes = uint64_t{1} << 30;  ///< for sessions that wait; 0: none is kept
    std::string folder;                         ///< for sessions in files; "": those past the budget are dropped
    uint64_t disk_bytes = uint64_t{16} << 30;   ///< for the files of sessions that went past the budget
};

/// A request as the store sees it.
struct Wanted {
    const std::vector<Token>& prompt;
    const MethodParams& method;  ///< resolved
    std::string document_id;     ///< "": none
    int n_predict = 0;           ///< cache entries to set aside for the answer
};

/// Used from several threads. Sessions in it never change: whoever wants to go on gets a copy.
class SessionStore {
  public:
    /// Finds the sessions in the folder, which is made where it is missing. `session` says the context's length and the
    /// types of the caches. Throws Error(failure) where the folder cannot be used or another server uses it.
    SessionStore(const Model& model, const SessionParams& session, const StoreParams& params);
    /// With a folder, what is in memory is written first.
    ~SessionStore();

    bool keeps() const { return params_.memory_bytes > 0; }
    bool has_folder() const { return !params_.folder.empty(); }

    /// A copy of the stored session with the same method, parameters and document that spares reading most of the
    /// prompt, rewound to tokens that the prompt begins with: to all of it, with logits, or to fewer than it has.
    std::optional<Session> find(const Wanted& wanted);

    /// Keeps a session; returns its number. Those that it has grown from are given up.
    uint64_t add(Session session, const std::string& document_id);

    struct File {
        int n_tokens = 0;
        uint64_t bytes = 0;
    };
    /// Writes a session as `name`, which must be a plain file name, into the folder. Nothing where there is no such
    /// session (any more). Throws Error(failure).
    std::optional<File> save(uint64_t id, const std::string& name);

    /// Keeps the session of that file as well. Throws Error(failure).
    File restore(const std::string& name, uint64_t& id);

    /// Gives a session up, with the file that it was spilled to; returns how many tokens it had.
    std::optional<int> erase(uint64_t id);

    /// Sessions, and bytes of those in memory.
    std::pair<int, uint64_t> usage() const;

  private:
    struct Entry {
        uint64_t id = 0;
        std::string key;  // what must be the same: method, parameters, document
        std::string document_id;
        std::vector<Token> tokens;
        int rewindable_to = 0;
        std::shared_ptr<const Session> session;  // nullptr: only in its file
        uint64_t bytes = 0;                      // of the session in memory, or of its file
        std::string path;                        // of its file, "": none yet
        bool spilled = false;                    // the file is the store's own
        bool writing = false;                    // the file is being written
    };
    using Entries = std::list<Entry>;  // the one used last is the first

    void open_folder();
    void find_files(const std::string& folder, bool spilled);
    Entries::iterator best_match(const Wanted& wanted, const std::string& key, size_t& n_common);
    std::shared_ptr<const Session> session_of(uint64_t id, std::unique_lock<std::mutex>& lock);
    uint64_t insert(Entry entry);
    void give_up_ancestors(const Entry& entry);
    void give_up(Entries::iterator entry);
    void leave_memory(Entry& entry);
    void drop_what_nothing_writes();
    Entries::iterator find_entry(uint64_t id);
    Entries::iterator oldest_in_memory();
    void write_until_the_end();
    void spill(std::unique_lock<std::mutex>& lock);
    void limit_disk();
    uint64_t memory_limit() const { return ending_ ? 0 : params_.memory_bytes; }

    const Model model_;
    SessionParams session_;
    const StoreParams params_;
    int lock_fd_ = -1;  // of the folder

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    Entries entries_;
    uint64_t in_memory_ = 0;  // bytes
    uint64_t next_id_ = 1;
    bool ending_ = false;
    std::thread writer_;  // with a folder
};

}  // namespace fastkv::server
