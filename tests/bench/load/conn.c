/* Sockets: connect, upgrade, cut frames out of what comes, write what waits, come back after the server died. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)

/* Always the same key, so that the right answer is a constant. */
static const char UPGRADE[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Protocol: bankhub.v1.msgpack\r\n\r\n";
static const char ACCEPT[] = "ICX+Yqv66kxgM0FcWaLWlFLwTAI=";

static uint8_t scratch[READ_BYTES + 512 * 1024];

static void watch(Conn *c, bool out, int how) {
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    c->polling_out = out;
    epoll_ctl(load.poll, how, c->fd, &event);
}

void conn_open(Conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(2);
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f000002u + c->index % load.sources);
    bind(c->fd, (struct sockaddr *)&from, sizeof from);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->state = CONNECTING;
    c->in_size = c->out_at = c->out_size = 0;
    c->syncing = false;
    load.opening++;
    watch(c, true, EPOLL_CTL_ADD);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        load.n.refused++;
        conn_closed(c);
    }
}

void conn_closed(Conn *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    if (c->state == READY) load.ready--;
    else load.opening--;
    if (c->state >= UPGRADING) load.n.closed++;
    if (!load.reconnect) {
        c->state = ENDED;
        return;
    }
    c->state = DOWN;
    c->was_down = true;
    uint64_t span_ms = load.retry_base_ms << (c->attempts < 16 ? c->attempts : 16);
    if (span_ms > load.retry_cap_ms) span_ms = load.retry_cap_ms;
    c->attempts++;
    c->due_ns = now_ns() + random_u64() % (span_ms * 1000000 + 1); /* full jitter, as WELCOME asks for */
    for (int i = 0; c->slots && i < SLOTS; i++) c->slots[i].again_ns = 0;
}

void conn_frame(Conn *c, uint8_t first, const uint8_t *payload, size_t size) {
    if (c->fd < 0) return;
    if (c->out_at && c->out_at == c->out_size) c->out_at = c->out_size = 0;
    size_t room = c->out_size + size + WS_HEADER_MAX;
    if (room > c->out_room) {
        c->out_room = room < 512 ? 512 : 2 * room;
        c->out = realloc(c->out, c->out_room);
        if (!c->out) abort();
    }
    c->out_size += ws_encode(c->out + c->out_size, first, payload, size);
}

void conn_flush(Conn *c) {
    if (c->fd < 0) return;
    while (c->out_at < c->out_size) {
        ssize_t sent = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR) break;
            conn_closed(c);
            return;
        }
        c->out_at += (size_t)sent;
    }
    bool rest = c->out_at < c->out_size;
    if (!rest) c->out_at = c->out_size = 0;
    if (rest != c->polling_out) watch(c, rest, EPOLL_CTL_MOD);
}

/* The answer to the upgrade; returns its length, 0 when it is not complete. */
static size_t upgraded(Conn *c, const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - data) + 4;
    bool good = size > 12 && !memcmp(data, "HTTP/1.1 101", 12) && memmem(data, head, ACCEPT, sizeof ACCEPT - 1) &&
                (load.raw || memmem(data, head, "bankhub.v1.msgpack", 18));
    if (!good) {
        load.n.protocol_errors++;
        snprintf(load.n.error, sizeof load.n.error, "upgrade refused: %.*s", (int)strcspn((const char *)data, "\r"),
                 (const char *)data);
        conn_closed(c);
        return head;
    }
    c->state = GREETING;
    if (!load.raw) {
        session_hello(c);
    } else {
        c->state = READY;
        load.opening--;
        load.ready++;
    }
    return head;
}

static void broken(Conn *c, const char *why) {
    load.n.protocol_errors++;
    snprintf(load.n.error, sizeof load.n.error, "%s", why);
    conn_closed(c);
}

static void frame(Conn *c, uint8_t first, const uint8_t *payload, size_t size) {
    load.n.messages++;
    if (first == WS_BINARY) {
        session_message(c, payload, size);
    } else if (first == WS_PING) {
        conn_frame(c, WS_PONG, payload, size);
    } else if (first == WS_CLOSE) {
        if (size >= 2) load.n.close_code = payload[0] << 8 | payload[1];
        conn_frame(c, WS_CLOSE, payload, size < 2 ? 0 : 2);
        conn_flush(c);
        conn_closed(c);
    } else if (first != WS_PONG) {
        broken(c, "the server sent an unexpected kind of WebSocket frame");
    }
}

/* Takes all whole frames from the front; returns how many bytes they were. */
static size_t cut(Conn *c, const uint8_t *data, size_t size) {
    size_t at = 0;
    if (c->state == UPGRADING) {
        at = upgraded(c, data, size);
        if (!at) return 0;
    }
    while (c->fd >= 0 && at < size) {
        uint8_t first;
        uint64_t length;
        int head = ws_header(data + at, size - at, &first, &length);
        if (head < 0) {
            broken(c, "the server sent a broken WebSocket header");
            break;
        }
        if (!head || size - at - (size_t)head < length) break;
        frame(c, first, data + at + head, length);
        at += (size_t)head + length;
    }
    return at;
}

static void readable(Conn *c) {
    memcpy(scratch, c->in, c->in_size);
    ssize_t got = recv(c->fd, scratch + c->in_size, READ_BYTES, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        conn_closed(c);
        return;
    }
    load.n.bytes += (uint64_t)got;
    size_t size = c->in_size + (size_t)got;
    size_t taken = cut(c, scratch, size);
    if (c->fd < 0) return;
    c->in_size = size - taken;
    if (c->in_size > 512 * 1024) {
        broken(c, "a message of more than 512 KiB");
        return;
    }
    if (c->in_size > c->in_room) {
        c->in_room = 2 * c->in_size;
        c->in = realloc(c->in, c->in_room);
        if (!c->in) abort();
    }
    if (c->in_size) memcpy(c->in, scratch + taken, c->in_size);
    session_fill(c);
    conn_flush(c);
}

static void connected(Conn *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    ssize_t sent = error ? -1 : send(c->fd, UPGRADE, sizeof UPGRADE - 1, MSG_NOSIGNAL);
    if (sent != (ssize_t)sizeof UPGRADE - 1) {
        load.n.refused++;
        conn_closed(c);
        return;
    }
    c->state = UPGRADING;
    watch(c, false, EPOLL_CTL_MOD);
}

void conn_event(Conn *c, uint32_t events) {
    if (c->state == CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) connected(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    if (c->fd >= 0 && events & EPOLLOUT) conn_flush(c);
}
