// A client that can also misbehave.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <cstring>
#include <string>

namespace fastkv::test {

struct HttpReply {
    int status = 0;       ///< 0: the connection ended without an answer
    std::string headers;  ///< with the status line
    std::string body;     ///< chunks put together

    nlohmann::json json() const { return nlohmann::json::parse(body); }
};

/// A connection to 127.0.0.1.
class Connection {
  public:
    explicit Connection(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(uint16_t(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
    ~Connection() { close(fd_); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    bool connected() const { return connected_; }
    bool send_all(const std::string& text) {
        for (size_t sent = 0; sent < text.size();) {
            const ssize_t n = send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
            if (n <= 0) return false;
            sent += size_t(n);
        }
        return true;
    }
    /// What comes until the other side closes, or until `end` has come.
    std::string receive(const std::string& end = "") {
        std::string text;
        char block[4096];
        while (end.empty() || text.find(end) == std::string::npos) {
            const ssize_t n = recv(fd_, block, sizeof block, 0);
            if (n <= 0) break;
            text.append(block, size_t(n));
        }
        return text;
    }

  private:
    int fd_;
    bool connected_ = false;
};

inline std::string request_text(const std::string& method, const std::string& path, const std::string& body = "",
                                const std::string& headers = "") {
    return method + " " + path +
           " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + headers + "\r\n" + body;
}

inline HttpReply reply_of(const std::string& raw) {
    HttpReply reply;
    const size_t end = raw.find("\r\n\r\n");
    if (!raw.starts_with("HTTP/1.1 ") || end == std::string::npos) return reply;
    reply.status = std::stoi(raw.substr(9, 3));
    reply.headers = raw.substr(0, end + 2);
    std::string rest = raw.substr(end + 4);
    if (reply.headers.find("ransfer-Encoding: chunked") == std::string::npos) {
        reply.body = rest;
        return reply;
    }
    while (!rest.empty()) {
        const size_t line = rest.find("\r\n");
        const size_t size = std::stoul(rest.substr(0, line), nullptr, 16);
        if (size == 0) break;
        reply.body += rest.substr(line + 2, size);
        rest.erase(0, line + 2 + size + 2);
    }
    return reply;
}

/// One request on a connection of its own.
inline HttpReply ask(int port, const std::string& raw) {
    Connection connection(port);
    if (!connection.connected() || !connection.send_all(raw)) return {};
    return reply_of(connection.receive());
}

}  // namespace fastkv::test
