/* Reference of the fan-out: a C loop of send() of bytes made beforehand, one thread, one core.
 *
 * send_loop BYTES BATCH: BYTES is the size of one whole WebSocket frame, BATCH how many of them are joined into one
 * send(). Prints {"port": …, "control": …}; every byte that comes on the control port is a credit for one round over
 * all connections. It answers the load client's upgrade, whose key never changes, with a constant.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n"
                             "Sec-WebSocket-Protocol: bankhub.v1.msgpack\r\n\r\n";

static int listening(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&at, &size)) {
        perror("listen");
        exit(1);
    }
    *port = ntohs(at.sin_port);
    return fd;
}

static int connections[20000], count;
static uint8_t *bytes;
static size_t total;

static void round_of_sends(void) {
    for (int i = 0; i < count; i++) {
        if (connections[i] < 0) continue;
        ssize_t sent = send(connections[i], bytes, total, MSG_NOSIGNAL);
        if (sent != (ssize_t)total) {
            fprintf(stderr, "send: %zd of %zu, %s\n", sent, total, strerror(errno));
            close(connections[i]);
            connections[i] = -1;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    size_t frame = (size_t)atoi(argv[1]), batch = (size_t)atoi(argv[2]);
    if (frame < 4 || frame > 60000 || !batch || batch > 64) return 2;
    total = frame * batch;
    bytes = calloc(1, total);
    for (size_t i = 0; i < batch; i++) {
        uint8_t *p = bytes + i * frame;
        size_t head = frame < 128 ? 2 : 4, size = frame - head; /* 126 and 127 have no shorter or longer form here */
        p[0] = 0x82;
        if (head == 2) p[1] = (uint8_t)size;
        else {
            p[1] = 126;
            p[2] = (uint8_t)(size >> 8);
            p[3] = (uint8_t)size;
        }
        memset(p + head, 'x', size);
    }
    uint16_t port, control_port;
    int listener = listening(&port), controller = listening(&control_port), poll = epoll_create1(0);
    int control = -1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = controller;
    epoll_ctl(poll, EPOLL_CTL_ADD, controller, &event);
    printf("{\"port\": %u, \"control\": %u}\n", port, control_port);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd, one = 1;
            char data[4096];
            if (fd == listener || fd == controller) {
                int from;
                while ((from = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    if (fd == controller) control = from;
                    event.data.fd = from;
                    epoll_ctl(poll, EPOLL_CTL_ADD, from, &event);
                }
                continue;
            }
            ssize_t got = read(fd, data, sizeof data);
            if (got <= 0) {
                if (fd == control) return 0;
                for (int k = 0; k < count; k++)
                    if (connections[k] == fd) connections[k] = -1;
                close(fd);
            } else if (fd == control) {
                while (got--) round_of_sends();
            } else if (memmem(data, (size_t)got, "GET /", 5) && count < 20000) {
                connections[count++] = fd;
                if (send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) return 1;
            }
        }
    }
}
