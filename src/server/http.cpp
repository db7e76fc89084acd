// A thread for each connection: answers are awaited where they are sent, and waiting costs nothing.
#include "server/http.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <exception>

#include "fastkv/error.h"

namespace fastkv::server {

struct HttpServer::Shared {
    HttpHandler& handler;
    HttpLimits limits;
    std::atomic<int> n_active = 0;
    std::atomic<size_t> n_held = 0;  // bytes of bodies, as far as they count
};

namespace {

// ---- one request ----

/// From its headers until its response is sent or the client gone.
struct Exchange {
    explicit Exchange(HttpServer::Shared& s) : shared(s) { ++shared.n_active; }
    ~Exchange() {
        drop_body();
        --shared.n_active;
    }
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;

    /// Makes `n_body` bytes of the body count. False where all requests together hold too many then.
    bool hold(size_t n_body) {
        const size_t more = counted(n_body) - n_held;
        if ((shared.n_held += more) > shared.limits.max_bodies) {
            shared.n_held -= more;
            return false;
        }
        n_held += more;
        return true;
    }
    void drop_body() {
        request.body = {};
        shared.n_held -= std::exchange(n_held, 0);
    }
    static size_t counted(size_t n_body) {
        constexpr size_t small = size_t{64} << 10;
        return n_body > small ? n_body - small : 0;
    }

    HttpServer::Shared& shared;
    const std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
    HttpRequest request;
    size_t n_received = 0;  // bytes of the body, those past the limits included
    size_t n_held = 0;      // of Shared::n_held
    bool no_room = false;   // for the body
};

bool peer_closed(int fd) {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, 0) <= 0) return false;
    if (waiting.revents & (POLLERR | POLLHUP | POLLNVAL)) return true;
    char next;
    return recv(fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

std::string header_of(MHD_Connection* connection, const char* name) {
    const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

MHD_Result add_to_query(void* cls, MHD_ValueKind, const char* name, const char* value) {
    static_cast<HttpRequest*>(cls)->query[name] = value ? value : "";
    return MHD_YES;
}

void set_idle_limit(MHD_Connection* connection, unsigned seconds) {
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

// ---- its response ----

/// What of a stream's pieces has not been sent yet.
struct StreamState {
    std::unique_ptr<HttpStream> stream;
    std::string unsent;
};

ssize_t read_stream(void* cls, uint64_t, char* buffer, size_t size) {
    auto& state = *static_cast<StreamState*>(cls);
    try {
        if (state.unsent.empty()) {
            std::optional<std::string> piece = state.stream->next();
            if (!piece) return MHD_CONTENT_READER_END_OF_STREAM;
            state.unsent = std::move(*piece);
        }
    } catch (const std::exception&) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    const size_t n = std::min(size, state.unsent.size());
    std::memcpy(buffer, state.unsent.data(), n);
    state.unsent.erase(0, n);
    return ssize_t(n);
}

void free_stream(void* cls) { delete static_cast<StreamState*>(cls); }

MHD_Response* make_response(HttpResponse& response) {
    if (!response.stream) {
        return MHD_create_response_from_buffer(response.body.size(), response.body.data(), MHD_RESPMEM_MUST_COPY);
    }
    auto state = std::make_unique<StreamState>(StreamState{std::move(response.stream), ""});
    MHD_Response* made = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, /*block_size=*/size_t{16} << 10,
                                                           read_stream, state.get(), free_stream);
    if (made) (void)state.release();  // free_stream() has it now
    return made;
}

MHD_Result send(MHD_Connection* connection, HttpResponse response) {
    MHD_Response* made = make_response(response);
    if (!made) return MHD_NO;
    MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE, response.content_type.c_str());
    for (const auto& [name, value] : response.headers) MHD_add_response_header(made, name.c_str(), value.c_str());
    const MHD_Result queued = MHD_queue_response(connection, unsigned(response.status), made);
    MHD_destroy_response(made);  // the connection keeps it
    return queued;
}

// ---- the library's callbacks ----

MHD_Result count_value(void* n, MHD_ValueKind, const char* name, const char*) {
    const bool says_length = strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ||
                             strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    *static_cast<int*>(n) += says_length ? 1 : 0;
    return MHD_YES;
}

/// Two lengths, or a length beside chunks: a proxy may go by the other one, and take the end of this body for a request
/// of its own (RFC 9112, 6.3 and 11.2).
bool is_length_ambiguous(MHD_Connection* connection) {
    int n = 0;
    MHD_get_connection_values(connection, MHD_HEADER_KIND, count_value, &n);
    return n > 1;
}

MHD_Result refuse_for_now(HttpServer::Shared& shared, MHD_Connection* connection) {
    HttpResponse response = shared.handler.error(503, "the server holds as many large requests as it may at a time");
    response.headers.emplace_back("Retry-After", "5");
    return send(connection, std::move(response));
}

/// The headers are there.
MHD_Result begin(HttpServer::Shared& shared, MHD_Connection* connection, Exchange& exchange) {
    exchange.request.authorization = header_of(connection, MHD_HTTP_HEADER_AUTHORIZATION);
    exchange.request.x_api_key = header_of(connection, "X-Api-Key");
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_to_query, &exchange.request);
    const int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    exchange.request.client_gone = [fd] { return peer_closed(fd); };

    if (is_length_ambiguous(connection)) {
        HttpResponse response = shared.handler.error(400, "the request says the length of its body more than once");
        response.headers.emplace_back("Connection", "close");
        return send(connection, std::move(response));
    }
    if (auto refused = shared.handler.refuse_early(exchange.request)) return send(connection, std::move(*refused));
    const std::string length = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;
    std::from_chars(length.data(), length.data() + length.size(), n);  // the library has checked that it is a number
    if (n > shared.limits.max_body) return send(connection, shared.handler.error(413, "the request is too large"));
    if (shared.n_held + Exchange::counted(n) > shared.limits.max_bodies) return refuse_for_now(shared, connection);
    return MHD_YES;
}

/// A piece of the body. What is past the limits is not kept, so that the client gets to read its answer; what is far
/// past them, or too slow, ends the connection.
MHD_Result receive(const HttpLimits& limits, Exchange& exchange, const char* data, size_t size) {
    exchange.n_received += size;
    if (exchange.n_received > 4 * limits.max_body) return MHD_NO;
    const auto limit = exchange.began + std::chrono::seconds(limits.body_seconds);
    if (std::chrono::steady_clock::now() > limit) return MHD_NO;
    const bool fits = exchange.n_received <= limits.max_body && !exchange.no_room;
    if (fits && exchange.hold(exchange.n_received)) {
        exchange.request.body.append(data, size);
    } else {
        exchange.no_room = true;
        exchange.drop_body();
    }
    return MHD_YES;
}

/// The whole request is there.
MHD_Result answer(HttpServer::Shared& shared, MHD_Connection* connection, const Exchange& exchange) {
    if (exchange.n_received > shared.limits.max_body) {
        return send(connection, shared.handler.error(413, "the request is too large"));
    }
    if (exchange.no_room) return refuse_for_now(shared, connection);
    set_idle_limit(connection, 0);  // while the answer is made nothing goes over the connection
    HttpResponse response = shared.handler.handle(exchange.request);
    set_idle_limit(connection, shared.limits.idle_seconds);
    return send(connection, std::move(response));
}

MHD_Result on_request(void* cls, MHD_Connection* connection, const char* url, const char* method, const char*,
                      const char* upload_data, size_t* upload_size, void** slot) {
    auto& shared = *static_cast<HttpServer::Shared*>(cls);
    try {
        if (*slot == nullptr) {
            auto* exchange = new Exchange(shared);
            *slot = exchange;  // on_completed() deletes it
            exchange->request.method = method;
            exchange->request.path = url;
            return begin(shared, connection, *exchange);
        }
        auto& exchange = *static_cast<Exchange*>(*slot);
        if (*upload_size == 0) return answer(shared, connection, exchange);
        const size_t size = std::exchange(*upload_size, 0);
        return receive(shared.limits, exchange, upload_data, size);
    } catch (const std::exception& error) {
        return send(connection, shared.handler.error(500, error.what()));
    }
}

void on_completed(void*, MHD_Connection*, void** slot, MHD_RequestTerminationCode) {
    delete static_cast<Exchange*>(*slot);
    *slot = nullptr;
}

// What the library has to say is about clients that break off or send nonsense.
void ignore_log(void*, const char*, va_list) {}

// ---- the socket ----

int listen_on(const addrinfo& address) {
    const int fd = socket(address.ai_family, address.ai_socktype, address.ai_protocol);
    if (fd < 0) return -1;
    const int on = 1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int open_listener(const std::string& host, int port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const std::string place = host + " port " + std::to_string(port);
    if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0) {
        fail("cannot listen on " + place + ": " + gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
    for (const addrinfo* address = found; address; address = address->ai_next) {
        if (const int fd = listen_on(*address); fd >= 0) return fd;
    }
    fail("cannot listen on " + place + ": " + std::strerror(errno) + " (--host, --port)");
}

int port_of(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    char name[NI_MAXSERV] = "";
    int port = 0;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, name, sizeof name, NI_NUMERICSERV) == 0) {
        std::from_chars(name, name + std::strlen(name), port);
    }
    return port;
}

}  // namespace

HttpServer::HttpServer(const std::string& host, int port, const HttpLimits& limits, HttpHandler& handler)
    : shared_(std::make_unique<Shared>(handler, limits)) {
    const int fd = open_listener(host, port);
    port_ = port_of(fd);
    daemon_ = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                                   MHD_USE_ERROR_LOG,
                               0, nullptr, nullptr, on_request, shared_.get(),   //
                               MHD_OPTION_EXTERNAL_LOGGER, ignore_log, nullptr,  // the first, so that it sees all
                               MHD_OPTION_LISTEN_SOCKET, fd,                     //
                               MHD_OPTION_NOTIFY_COMPLETED, on_completed, nullptr, MHD_OPTION_CONNECTION_LIMIT,
                               limits.max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits.max_headers,
                               MHD_OPTION_CONNECTION_TIMEOUT, limits.idle_seconds, MHD_OPTION_END);
    if (daemon_) return;
    close(fd);
    fail("cannot start the HTTP server on " + host + " port " + std::to_string(port));
}

HttpServer::~HttpServer() {
    if (daemon_) MHD_stop_daemon(daemon_);
}

int HttpServer::n_active() const { return shared_->n_active; }

}  // namespace fastkv::server
