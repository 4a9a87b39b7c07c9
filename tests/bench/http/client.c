/* The HTTP load client of `./bankhub bench gateway`: one thread, epoll, keep-alive, one request a connection at a time.
 *
 * It reads every answer by its Content-Length and checks its status, so what it counts was really answered. Requests
 * come from a file: a line with the number of bytes, then the bytes. Connection i begins with request i.
 */
#include "../load/load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    const char *bytes;
    size_t size;
} Request;

typedef struct {
    int fd;
    uint32_t next;
    uint64_t asked_ns;
    size_t have;
    char in[65536];
} Caller;

static Request *requests;
static uint32_t request_count, connections = 32;
static int port, server_pid, expected = 200;
static double warm_s = 0.5, measure_s = 3;
static Caller *callers;
static uint64_t answered, total, warm_count;
static Histogram *latency;
static bool measuring;

static void fail(const char *why, const char *what) {
    printf("{\"result\": \"failed\", \"why\": \"%s\", \"what\": \"", why);
    for (; *what; what++) {
        if (*what >= 32 && *what != '"' && *what != '\\') putchar(*what);
    }
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("the file of requests cannot be read", path);
    size_t room = 0, size;
    while (fscanf(file, "%zu", &size) == 1) {
        fgetc(file);
        char *bytes = malloc(size);
        if (!bytes || fread(bytes, 1, size, file) != size) fail("the file of requests is short", path);
        if (request_count == room) requests = realloc(requests, (room = room ? room * 2 : 64) * sizeof *requests);
        requests[request_count++] = (Request){bytes, size};
    }
    fclose(file);
    if (!request_count) fail("there are no requests", path);
}

static void ask(Caller *c) {
    Request *r = &requests[c->next];
    c->next = (c->next + connections) % request_count;
    c->have = 0;
    c->asked_ns = now_ns();
    if (send(c->fd, r->bytes, r->size, MSG_NOSIGNAL) != (ssize_t)r->size) fail("a request was not taken", "");
}

static void receive(Caller *c) {
    ssize_t got = recv(c->fd, c->in + c->have, sizeof c->in - 1 - c->have, 0);
    if (got <= 0) fail("the server closed a connection", c->in);
    c->have += (size_t)got;
    c->in[c->have] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->in, "\r\nContent-Length:");
    if (!length || length > end) fail("an answer has no length", c->in);
    if (c->have < (size_t)(end + 4 - c->in) + strtoul(length + 17, NULL, 10)) return;
    if (atoi(c->in + 9) != expected) fail("an answer has another status", c->in);
    total++;
    if (measuring) {
        answered++;
        histogram_add(latency, (now_ns() - c->asked_ns) / 1000);
    }
    ask(c);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'},    {"server-pid", 1, 0, 's'}, {"connections", 1, 0, 'c'}, {"requests", 1, 0, 'r'},
        {"warm-s", 1, 0, 'w'},  {"measure-s", 1, 0, 'm'},  {"expect", 1, 0, 'e'},      {"mode", 1, 0, 'o'},
        {"warm-count", 1, 0, 'n'},
        {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p') port = atoi(optarg);
        else if (o == 's') server_pid = atoi(optarg);
        else if (o == 'c') connections = (uint32_t)atoi(optarg);
        else if (o == 'r') read_requests(optarg);
        else if (o == 'w') warm_s = atof(optarg);
        else if (o == 'm') measure_s = atof(optarg);
        else if (o == 'n') warm_count = (uint64_t)atoll(optarg);
        else if (o == 'e') expected = atoi(optarg);
        else if (o != 'o') return 2;
    }
    callers = calloc(connections, sizeof *callers);
    latency = calloc(1, sizeof *latency);
    int poll = epoll_create1(0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (uint32_t i = 0; i < connections; i++) {
        Caller *c = &callers[i];
        int yes = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->next = i % request_count;
        if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("the server cannot be reached", "");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    }
    printf("{\"event\": \"ready\"}\n");
    fflush(stdout);
    for (uint32_t i = 0; i < connections; i++) ask(&callers[i]);
    uint64_t begin = now_ns() + (uint64_t)(warm_s * 1e9), end = 0, cpu = 0, server = 0, now;
    struct epoll_event events[256];
    while (!end || (now = now_ns()) < end) {
        if (!end && now_ns() >= begin && total >= warm_count) {
            measuring = true;
            begin = now_ns(), cpu = cpu_ns(), server = cpu_ns_of(server_pid);
            end = begin + (uint64_t)(measure_s * 1e9);
        }
        int ready = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < ready; i++) receive(events[i].data.ptr);
    }
    now = now_ns();
    double took = (double)(now - begin) / 1e9;
    double server_s = (double)(cpu_ns_of(server_pid) - server) / 1e9;
    printf("{\"result\": \"ok\", \"answered\": %llu, \"took_s\": %.6f, \"per_s\": %.1f, \"server_cpu\": %.4f, "
           "\"server_us\": %.3f, \"client_cpu\": %.4f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (unsigned long long)answered, took, (double)answered / took, server_s / took,
           answered ? server_s * 1e6 / (double)answered : 0.0, (double)(cpu_ns() - cpu) / 1e9 / took,
           histogram_at(latency, 0.5) / 1000, histogram_at(latency, 0.99) / 1000);
    return 0;
}
