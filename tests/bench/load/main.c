/* Options, phases and the report. Prints JSON lines: {"event": …} on the way, {"result": …} last. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 512
#define SECOND 1000000000ull
#define PACE_NS 200000 /* paced sends may be so much late: latency counts from when they were due */

Load load = {
    .mode = "idle", .run = "r", .connections = 100, .connecting = 256, .sources = 4, .batch = 1, .body_size = 100,
    .warm_s = 1, .measure_s = 3, .limit_s = 60, .drain_s = 30, .outstanding = SLOTS, .retry_base_ms = 250, .retry_cap_ms = 20000, .control = -1,
};

static uint64_t pace_due, paced, housekept;

typedef struct {
    uint64_t at_ns, cpu, server_cpu, entries, sent, messages, bytes;
} Snapshot;

static Snapshot snapshot(void) {
    return (Snapshot){now_ns(),      cpu_ns(),       load.server_pid ? cpu_ns_of(load.server_pid) : 0,
                      load.n.entries, load.n.sent, load.n.messages, load.n.bytes};
}

static void fail(const char *why) {
    printf("{\"result\": \"failed\", \"why\": \"%s\", \"ready\": %u, \"refused\": %llu, \"closed\": %llu, "
           "\"error\": \"%s\", \"bye\": \"%s\", \"bye_code\": %d}\n",
           why, load.ready, (unsigned long long)load.n.refused, (unsigned long long)load.n.closed, load.n.error,
           load.n.bye, load.n.bye_code);
    fflush(stdout);
    exit(1);
}

static void *need(void *memory) {
    if (!memory) fail("out of memory");
    return memory;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static char *slurp(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("a file of tokens or streams cannot be read");
    size_t size = 0, room = 1 << 20;
    char *text = need(malloc(room));
    size_t got;
    while ((got = fread(text + size, 1, room - size - 1, file)) > 0) {
        size += got;
        if (room - size < 2) text = need(realloc(text, room *= 2));
    }
    fclose(file);
    text[size] = 0;
    return text;
}

/* One token a line, for the first connections. */
static void read_tokens(const char *path) {
    char *at = slurp(path);
    for (uint32_t i = 0; i < load.connections; i++) {
        size_t size = strcspn(at, "\n");
        if (!size) fail("there are fewer tokens than connections");
        load.conns[i].token = at;
        load.conns[i].token_size = (uint32_t)size;
        at += size + 1;
    }
}

/* `stream head` a line, for the first connections; those of one stream stand together. */
static void read_streams(const char *path) {
    char *at = slurp(path);
    load.streams = need(calloc(load.connections, sizeof *load.streams));
    Stream *s = load.streams - 1;
    for (uint32_t i = 0; i < load.connections; i++) {
        char name[24] = "";
        long long head = 0;
        if (sscanf(at, "%23s %lld", name, &head) != 2) fail("there are fewer streams than connections");
        if (!load.stream_count || strcmp(name, s->name)) {
            s++;
            load.stream_count++;
            *s = (Stream){.name_size = (uint32_t)strlen(name), .first = head, .head = head};
            strcpy(s->name, name);
        }
        s->members++;
        load.conns[i].stream = s;
        load.conns[i].seq = head;
        at += strcspn(at, "\n") + 1;
    }
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void open_more(uint64_t now) {
    while (load.up < load.connections && load.opening < load.connecting) conn_open(&load.conns[load.up++]);
    if (!load.reconnect || load.ready + load.opening >= load.up) return;
    for (uint32_t i = 0; i < load.up && load.opening < load.connecting; i++) {
        Conn *c = &load.conns[i];
        if (c->state == DOWN && c->due_ns <= now) conn_open(c);
    }
}

/* Who sends next: every (connections / senders)-th connection, hopping so that neighbours in time are in other rooms. */
static Conn *next_sender(void) {
    uint32_t senders = load.senders ? load.senders : load.connections;
    uint32_t hop = 7919, at = (uint32_t)(paced++ * hop % senders); /* 7919 is a prime above any room's size */
    return &load.conns[(uint64_t)at * (load.connections / senders)];
}

static void pace(uint64_t now) {
    if (load.rate <= 0 || !load.sending) return;
    uint64_t step = (uint64_t)((double)SECOND / load.rate);
    if (!pace_due) pace_due = now;
    for (; pace_due <= now; pace_due += step) {
        Conn *c = next_sender();
        if (c->state != READY) continue;
        session_send(c, pace_due);
        conn_flush(c);
    }
}

static void credit(void) {
    if (load.control < 0 || !load.sending) return;
    static const char paid[256];
    uint64_t due = load.completed + load.window - load.credits;
    if (!due) return;
    ssize_t sent = send(load.control, paid, due < sizeof paid ? due : sizeof paid, MSG_NOSIGNAL);
    if (sent > 0) load.credits += (uint64_t)sent;
}

static void housekeeping(uint64_t now) {
    if (now - housekept < SECOND / 50) return;
    housekept = now;
    for (uint32_t i = 0; i < load.up; i++) {
        Conn *c = &load.conns[i];
        session_retry(c, now);
        if (load.ack_ms) session_ack(c, now);
    }
}

static void turn(void) {
    uint64_t now = now_ns();
    open_more(now);
    credit();
    pace(now);
    if (load.unanswered || load.ack_ms) housekeeping(now);
    uint64_t wait_ns = SECOND / 200;
    if (load.rate > 0 && load.sending) {
        uint64_t soon = now + PACE_NS, due = pace_due > soon ? pace_due : soon;
        wait_ns = due - now < wait_ns ? due - now : wait_ns;
    }
    struct timespec wait = {0, (long)wait_ns};
    struct epoll_event events[EVENTS];
    int count = epoll_pwait2(load.poll, events, EVENTS, &wait, NULL);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        if (!events[i].data.ptr) {
            char line[256]; /* a line or the end of standard input: go on */
            if (read(0, line, sizeof line) == 0) epoll_ctl(load.poll, EPOLL_CTL_DEL, 0, NULL);
            load.stop = true;
        } else {
            conn_event(events[i].data.ptr, events[i].events);
        }
    }
}

static void turn_for(double seconds) {
    uint64_t until = now_ns() + (uint64_t)(seconds * (double)SECOND);
    while (now_ns() < until) turn();
}

static void everybody_in(void) {
    uint64_t began = now_ns(), limit = began + (uint64_t)(load.limit_s * (double)SECOND);
    while (load.ready < load.connections) {
        turn();
        if (now_ns() > limit) fail("not everybody came in");
        if (!load.reconnect && load.n.closed + load.n.refused) fail("a connection was refused or closed");
    }
    double took = (double)(now_ns() - began) / SECOND;
    printf("{\"event\": \"ready\", \"connections\": %u, \"took_s\": %.4f}\n", load.ready, took);
    fflush(stdout);
}

/* Stop sending, wait for every answer and every entry; true when nothing is missing. */
static bool drained(void) {
    load.sending = false;
    uint64_t limit = now_ns() + (uint64_t)(load.drain_s * (double)SECOND);
    while (now_ns() < limit) {
        bool all = !load.unanswered && load.completed == load.credits;
        for (uint32_t i = 0; all && i < load.connections; i++) {
            Conn *c = &load.conns[i];
            if (c->stream && !load.got && (c->state != READY || c->syncing || c->seq < c->stream->head)) all = false;
        }
        if (all) return true;
        turn();
    }
    return false;
}

/* --- report ------------------------------------------------------------------------------------------------------ */

static void number(const char *name, double value) { printf(", \"%s\": %.6g", name, value); }

static void count(const char *name, uint64_t value) { printf(", \"%s\": %llu", name, (unsigned long long)value); }

static void report_window(const Snapshot *a, const Snapshot *b) {
    double span = (double)(b->at_ns - a->at_ns) / SECOND;
    number("window_s", span);
    number("entries_per_s", (double)(b->entries - a->entries) / span);
    number("sent_per_s", (double)(b->sent - a->sent) / span);
    number("mbytes_per_s", (double)(b->bytes - a->bytes) / span / 1e6);
    number("client_cpu", (double)(b->cpu - a->cpu) / (double)SECOND / span);
    number("server_cpu", (double)(b->server_cpu - a->server_cpu) / (double)SECOND / span);
    count("window_entries", b->entries - a->entries);
    count("window_sent", b->sent - a->sent);
    count("window_server_cpu_ns", b->server_cpu - a->server_cpu);
}

static void report_counters(bool complete) {
    uint64_t expected = 0, behind = 0, unaccounted = 0, uneven = 0;
    for (uint32_t i = 0; i < load.stream_count; i++) {
        Stream *s = &load.streams[i];
        expected += s->sent * s->members;
        uint64_t grown = (uint64_t)(s->head - s->first);
        unaccounted += grown > s->sent ? grown - s->sent : s->sent - grown;
    }
    for (uint32_t i = 0; i < load.connections; i++) {
        Conn *c = &load.conns[i];
        if (load.got) uneven += c->entries != load.credits * load.batch;
        else if (c->stream) behind += (uint64_t)(c->stream->head - c->seq);
    }
    if (load.got) expected = load.credits * load.batch * load.connections;
    printf(", \"complete\": %s", complete ? "true" : "false");
    count("connections", load.ready);
    count("sent", load.n.sent);
    count("duplicate_sent", load.n.duplicate_sent);
    count("entries", load.n.entries);
    count("expected_entries", expected);
    count("behind", behind);           /* entries that connections lack at the end */
    count("unaccounted", unaccounted); /* entries without a SENT, or SENTs without an entry */
    count("uneven", uneven);
    count("holes", load.n.holes);
    count("repeats", load.n.repeats);
    count("gap_frames", load.n.gap_frames);
    count("resyncs", load.n.resyncs);
    count("errors", load.n.errors);
    count("overruns", load.n.overruns);
    count("closed", load.n.closed);
    count("refused", load.n.refused);
    count("reconnects", load.n.reconnects);
    count("pings", load.n.pings);
    count("byes", load.n.byes);
    count("protocol_errors", load.n.protocol_errors);
    count("messages", load.n.messages);
    printf(", \"error\": \"%s\", \"bye\": \"%s\"", load.n.error, load.n.bye);
}

static void report_latency(void) {
    if (!load.acks->total) return;
    number("ack_p50_ms", histogram_at(load.acks, 0.50) / 1000);
    number("ack_p90_ms", histogram_at(load.acks, 0.90) / 1000);
    number("ack_p99_ms", histogram_at(load.acks, 0.99) / 1000);
    number("ack_p999_ms", histogram_at(load.acks, 0.999) / 1000);
    number("ack_max_ms", (double)load.acks->max / 1000);
}

/* --- modes ------------------------------------------------------------------------------------------------------- */

static void idle(void) {
    while (!load.stop) turn();
    printf("{\"result\": \"idle\"");
    report_counters(true);
    printf("}\n");
}

static void measured(const char *name) {
    load.sending = true;
    if (load.window && load.control < 0)
        for (uint32_t i = 0; i < load.connections; i++) {
            session_fill(&load.conns[i]);
            conn_flush(&load.conns[i]);
        }
    turn_for(load.warm_s);
    load.measuring = true;
    Snapshot a = snapshot();
    turn_for(load.measure_s);
    Snapshot b = snapshot();
    load.measuring = false;
    bool complete = drained();
    printf("{\"result\": \"%s\"", name);
    report_window(&a, &b);
    report_latency();
    report_counters(complete);
    printf("}\n");
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The server dies under way and comes back: everybody reconnects with `resume` and must have everything again. */
static void recover(void) {
    load.reconnect = true;
    load.sending = true;
    uint64_t limit = now_ns() + (uint64_t)(load.limit_s * (double)SECOND);
    while (!load.n.closed && now_ns() < limit) turn();
    uint64_t lost_ns = now_ns(), first_in_ns = 0, cpu = cpu_ns();
    load.sending = false;
    bool all = false;
    while (!all && now_ns() < limit) {
        turn();
        uint64_t now = now_ns();
        if (!first_in_ns && load.n.reconnects) first_in_ns = now;
        all = load.ready == load.connections;
        for (uint32_t i = 0; i < load.connections; i++) {
            Conn *c = &load.conns[i];
            bool whole = c->state == READY && !c->syncing && !c->waiting && c->seq >= c->stream->head;
            if (!whole) all = false;
            else if (c->was_down && !c->recovered) {
                c->recovered = true;
                c->recovered_ns = now;
            }
        }
    }
    uint64_t end_ns = now_ns();
    double client_cpu = (double)(cpu_ns() - cpu) / (double)(end_ns - lost_ns);
    uint64_t *each = need(calloc(load.connections, sizeof *each));
    uint32_t down = 0;
    for (uint32_t i = 0; i < load.connections; i++)
        if (load.conns[i].recovered) each[down++] = load.conns[i].recovered_ns - lost_ns;
    qsort(each, down, sizeof *each, by_value);
    if (all) { /* and chat goes on as if nothing had been */
        pace_due = 0;
        load.sending = true;
        turn_for(load.measure_s);
    }
    bool complete = drained() && all;
    printf("{\"result\": \"recover\"");
    count("lost_ns", lost_ns);
    count("first_in_ns", first_in_ns);
    count("recovered_ns", all ? end_ns : 0);
    count("were_down", down);
    number("each_p50_s", down ? (double)each[down / 2] / SECOND : 0);
    number("each_p99_s", down ? (double)each[(uint64_t)down * 99 / 100] / SECOND : 0);
    number("client_cpu", client_cpu);
    report_counters(complete);
    printf("}\n");
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static void options(int argc, char **argv, const char **tokens, const char **streams) {
    static const struct option names[] = {
        {"mode", 1, 0, 'm'},    {"port", 1, 0, 'p'},    {"control-port", 1, 0, 'C'}, {"connections", 1, 0, 'n'},
        {"connecting", 1, 0, 'c'}, {"sources", 1, 0, 'f'}, {"tokens", 1, 0, 't'},    {"streams", 1, 0, 's'},
        {"window", 1, 0, 'w'},  {"rate", 1, 0, 'r'},    {"batch", 1, 0, 'k'},        {"body", 1, 0, 'b'},
        {"senders", 1, 0, 'S'}, {"warm-s", 1, 0, 'W'},  {"measure-s", 1, 0, 'M'},    {"limit-s", 1, 0, 'L'},
        {"ack-ms", 1, 0, 'a'},  {"server-pid", 1, 0, 'P'}, {"run", 1, 0, 'R'},       {"raw", 0, 0, 'x'},
        {"drain-s", 1, 0, 'D'}, {"outstanding", 1, 0, 'O'},
        {0, 0, 0, 0}};
    int at;
    while ((at = getopt_long(argc, argv, "", names, NULL)) != -1) switch (at) {
        case 'm': load.mode = optarg; break;
        case 'p': load.port = atoi(optarg); break;
        case 'C': load.control_port = atoi(optarg); break;
        case 'n': load.connections = (uint32_t)atoi(optarg); break;
        case 'c': load.connecting = (uint32_t)atoi(optarg); break;
        case 'f': load.sources = (uint32_t)atoi(optarg); break;
        case 't': *tokens = optarg; break;
        case 's': *streams = optarg; break;
        case 'w': load.window = (uint32_t)atoi(optarg); break;
        case 'r': load.rate = atof(optarg); break;
        case 'k': load.batch = (uint32_t)atoi(optarg); break;
        case 'b': load.body_size = (uint32_t)atoi(optarg); break;
        case 'S': load.senders = (uint32_t)atoi(optarg); break;
        case 'W': load.warm_s = atof(optarg); break;
        case 'M': load.measure_s = atof(optarg); break;
        case 'L': load.limit_s = atof(optarg); break;
        case 'a': load.ack_ms = (uint32_t)atoi(optarg); break;
        case 'P': load.server_pid = atoi(optarg); break;
        case 'O': load.outstanding = (uint32_t)atoi(optarg); break;
        case 'D': load.drain_s = atof(optarg); break;
        case 'R': load.run = optarg; break;
        case 'x': load.raw = true; break;
        default: exit(2);
        }
    if (!load.connections || !load.batch || !load.sources || load.body_size > 8000 || strlen(load.run) > 32 ||
        load.senders > load.connections || load.window > SLOTS || load.outstanding > SLOTS || load.connections % load.batch > load.connections)
        fail("an option is out of range");
}

static void dial_control(void) {
    if (!load.control_port) return;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load.control_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    load.control = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(load.control, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(load.control, (struct sockaddr *)&to, sizeof to) < 0) fail("the control port does not answer");
    fcntl(load.control, F_SETFL, O_NONBLOCK);
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    const char *tokens = NULL, *streams = NULL;
    options(argc, argv, &tokens, &streams);
    if (load.connections + 16 > files.rlim_max) fail("more connections than files may be open (ulimit -Hn)");
    load.conns = need(calloc(load.connections, sizeof *load.conns));
    load.acks = need(calloc(1, sizeof *load.acks));
    load.poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(load.poll, EPOLL_CTL_ADD, 0, &event); /* fails for a plain file; then nobody can stop us early */
    bool durable = !strcmp(load.mode, "durable"), storm = !strcmp(load.mode, "recover");
    bool fanout = !strcmp(load.mode, "fanout");
    for (uint32_t i = 0; i < load.connections; i++) {
        Conn *c = &load.conns[i];
        c->index = i;
        c->fd = -1;
        c->token = "";
        if (durable || storm) c->slots = need(calloc(SLOTS, sizeof *c->slots));
    }
    if (tokens) read_tokens(tokens);
    if (streams) read_streams(streams);
    if ((durable || storm || (fanout && !load.raw)) && (!tokens || !streams)) fail("this mode needs tokens and streams");
    if (fanout) load.got = need(calloc(BROADCASTS, sizeof *load.got));
    dial_control();
    everybody_in();
    if (fanout || durable) measured(load.mode);
    else if (storm) recover();
    else idle();
    fflush(stdout);
    return 0;
}
