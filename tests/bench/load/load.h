/* The load client of `./bankhub bench hub`: one thread, epoll, RFC 6455 and the hub's msgpack frames.
 *
 * It counts every frame it gets and checks every seq, so what it reports was really received. It shares no code with
 * the hub. Files: wire.c (framing and msgpack), stats.c (histogram, CPU time), conn.c (sockets), frames.c (the
 * protocol of one session), main.c (options, phases, report).
 */
#ifndef BANKHUB_LOAD_H
#define BANKHUB_LOAD_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* --- wire.c ------------------------------------------------------------------------------------------------------ */

typedef struct {
    const uint8_t *p, *end;
    bool bad; /* something did not fit: everything read since is worthless */
} Reader;

uint32_t read_array(Reader *r);
uint32_t read_map(Reader *r);
int64_t read_int(Reader *r);
bool read_bool(Reader *r);
bool read_str(Reader *r, const char **text, uint32_t *size); /* false for nil */
void read_skip(Reader *r, uint32_t values);

typedef struct {
    uint8_t *p;
} Writer;

void write_array(Writer *w, uint32_t size);
void write_map(Writer *w, uint32_t size);
void write_uint(Writer *w, uint64_t value);
void write_str(Writer *w, const char *text, uint32_t size);
void write_nil(Writer *w);

#define WS_BINARY 0x82
#define WS_CLOSE 0x88
#define WS_PING 0x89
#define WS_PONG 0x8a
#define WS_HEADER_MAX 14

/* Header and masked payload of one client frame; returns how many bytes were written to `out`. */
size_t ws_encode(uint8_t *out, uint8_t first, const uint8_t *payload, size_t size);
/* Header of a server frame: its length, 0 when more bytes are needed, -1 when the server breaks the protocol. */
int ws_header(const uint8_t *data, size_t have, uint8_t *first, uint64_t *size);

/* --- stats.c ----------------------------------------------------------------------------------------------------- */

#define HISTOGRAM_OCTAVES 40
#define HISTOGRAM_STEPS 128 /* per octave: values are kept to within 0.8 % */

typedef struct {
    uint64_t total, max;
    uint64_t counts[HISTOGRAM_OCTAVES * HISTOGRAM_STEPS];
} Histogram;

void histogram_add(Histogram *h, uint64_t value_us);
double histogram_at(const Histogram *h, double share); /* value in us below which `share` of all lie */

uint64_t now_ns(void);
uint64_t cpu_ns(void);            /* of this process */
uint64_t cpu_ns_of(int pid);      /* of all threads of another process, 0 when it is gone */
uint64_t random_u64(void);        /* not for secrets */

/* --- sessions ---------------------------------------------------------------------------------------------------- */

#define SLOTS 64 /* unanswered SENDs of one connection at most */

typedef struct {
    char name[24];
    uint32_t name_size;
    uint32_t members; /* connections of ours that follow it */
    int64_t first;    /* head when we came */
    int64_t head;     /* newest seq that a SENT or an entry showed us */
    uint64_t sent;    /* SENTs without `duplicate` */
} Stream;

typedef struct {
    uint32_t id;       /* 0: free */
    uint32_t key;      /* number of the message; the dedupe key is made from it, so a retry repeats it */
    uint64_t due_ns;   /* when it should have been sent: latency counts from here */
    uint64_t again_ns; /* send again at this time, 0: wait for the answer */
} Slot;

typedef enum { DOWN, CONNECTING, UPGRADING, GREETING, READY, ENDED } State;

typedef struct {
    int fd;
    State state;
    bool polling_out, syncing, was_down, recovered;
    uint32_t index, next_id, next_key, attempts, waiting;
    Stream *stream;
    int64_t seq;   /* newest entry taken in order */
    int64_t ahead; /* newest entry that came while earlier ones were missing */
    uint64_t entries, due_ns, recovered_ns, acked_ns;
    const char *token;
    uint32_t token_size;
    uint8_t *in, *out;
    size_t in_size, in_room, out_at, out_size, out_room;
    Slot *slots;
} Conn;

typedef struct {
    uint64_t entries, other_entries, sent, duplicate_sent, errors, gap_frames, pings, bytes, messages;
    uint64_t holes, repeats, resyncs, protocol_errors, closed, refused, reconnects, byes, overruns;
    int bye_code, close_code;
    char error[160], bye[160];
} Counters;

typedef struct {
    /* options */
    const char *mode, *run;
    int port, control_port, server_pid;
    uint32_t connections, connecting, sources, window, outstanding, batch, body_size, senders;
    double rate, warm_s, measure_s, limit_s, drain_s;
    uint32_t ack_ms;
    bool raw, reconnect;
    /* state */
    Conn *conns;
    Stream *streams;
    uint32_t stream_count, up, ready, opening;
    int poll, control;
    bool sending, measuring, stop;
    uint32_t unanswered;
    uint64_t retry_base_ms, retry_cap_ms;
    Counters n;
    Histogram *acks;
    /* closed loop of the fan-out: how many connections have a broadcast completely */
    uint32_t *got;
    uint64_t credits, completed;
} Load;

#define BROADCASTS 8192 /* outstanding at most; a power of two */

extern Load load;

/* conn.c */
void conn_open(Conn *c);
void conn_closed(Conn *c);
void conn_event(Conn *c, uint32_t events);
void conn_frame(Conn *c, uint8_t first, const uint8_t *payload, size_t size); /* queues */
void conn_flush(Conn *c);

/* frames.c */
void session_hello(Conn *c);
void session_message(Conn *c, const uint8_t *payload, size_t size);
void session_send(Conn *c, uint64_t due_ns);
void session_fill(Conn *c);               /* closed loop: as many SENDs as the window has room for */
void session_retry(Conn *c, uint64_t now); /* what is due to be sent again */
void session_ack(Conn *c, uint64_t now);
void session_sync(Conn *c);

#endif
