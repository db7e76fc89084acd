// HTTP over libmicrohttpd: requests come in, responses go out. Nothing here knows of models.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

struct MHD_Daemon;

namespace fastkv::server {

/// What clients may cost. What is past a limit is answered with 413 (a body), 503 (all bodies), 431 (headers), or waits
/// (connections).
struct HttpLimits {
    size_t max_body = size_t{16} << 20;     ///< bytes
    size_t max_bodies = size_t{128} << 20;  ///< bytes of all bodies whose requests are not answered yet, but for the
                                            ///< first 64 KiB of each: small requests always come through
    size_t max_headers = size_t{32} << 10;  ///< bytes of the request line and all headers
    unsigned max_connections = 256;         ///< further ones wait to be accepted
    unsigned idle_seconds = 60;             ///< a connection on which nothing comes or goes is closed
    unsigned body_seconds = 600;            ///< one whose body is not there by then too, however it trickles
};

struct HttpRequest {
    std::string method;                        ///< "GET"
    std::string path;                          ///< without what follows a question mark
    std::map<std::string, std::string> query;  ///< that: "action=save" as action -> save
    std::string authorization;                 ///< the header's value, "" without one
    std::string x_api_key;                     ///< the same
    std::string body;
    std::function<bool()> client_gone;  ///< whether the other side has closed the connection; cheap
};

/// A response that grows while it is sent. It is destroyed when it has been sent or the client has gone.
class HttpStream {
  public:
    virtual ~HttpStream() = default;
    /// The next piece, never empty; nothing at the end, or where the client has gone. May block: while it waits it
    /// should send something now and then, so that the connection does not count as idle.
    virtual std::optional<std::string> next() = 0;
};

struct HttpResponse {
    int status = 200;
    std::string content_type;
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::unique_ptr<HttpStream> stream = nullptr;  ///< instead of a body
};

/// What a server does. Called on many threads at a time, one for each connection.
class HttpHandler {
  public:
    virtual ~HttpHandler() = default;
    /// Before the body is read: a response where that is not worth the while (no such path, no key).
    virtual std::optional<HttpResponse> refuse_early(const HttpRequest& request) = 0;
    virtual HttpResponse handle(const HttpRequest& request) = 0;
    /// The response for a body past the limits (413, 503), and for an exception that handle() threw (500).
    virtual HttpResponse error(int status, const std::string& message) = 0;
};

class HttpServer {
  public:
    /// Listens at once. `host` is a name or an address; `port` 0 takes a free one. Throws Error(failure) where that
    /// cannot be. `handler` must outlive the server.
    HttpServer(const std::string& host, int port, const HttpLimits& limits, HttpHandler& handler);
    /// Ends all connections.
    ~HttpServer();

    int port() const { return port_; }

    /// Requests being handled or answered.
    int n_active() const;

    struct Shared;  ///< what the library's callbacks see; not part of the interface

  private:
    std::unique_ptr<Shared> shared_;
    MHD_Daemon* daemon_ = nullptr;
    int port_ = 0;
};

}  // namespace fastkv::server
