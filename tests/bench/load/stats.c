/* Latencies and CPU time. */
#include "load.h"

#include <dirent.h>
#include <stdlib.h>
#include <time.h>

static int bucket(uint64_t value) {
    int octave = 0;
    uint64_t top = value;
    while (top >= 2 * HISTOGRAM_STEPS) {
        top >>= 1;
        octave++;
    }
    /* below 2*STEPS every value has its own place; above, each octave has STEPS places */
    int at = (int)top + octave * HISTOGRAM_STEPS;
    int last = HISTOGRAM_OCTAVES * HISTOGRAM_STEPS - 1;
    return at < last ? at : last;
}

void histogram_add(Histogram *h, uint64_t value_us) {
    h->total++;
    if (value_us > h->max) h->max = value_us;
    h->counts[bucket(value_us)]++;
}

double histogram_at(const Histogram *h, double share) {
    if (!h->total) return 0;
    uint64_t wanted = (uint64_t)(share * (double)h->total), seen = 0;
    for (int at = 0; at < HISTOGRAM_OCTAVES * HISTOGRAM_STEPS; at++) {
        seen += h->counts[at];
        if (seen > wanted || seen == h->total) {
            if (at < 2 * HISTOGRAM_STEPS) return at;
            int octave = at / HISTOGRAM_STEPS - 1;
            uint64_t value = (uint64_t)(at - octave * HISTOGRAM_STEPS) << octave;
            return value < h->max ? (double)value : (double)h->max;
        }
    }
    return (double)h->max;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

uint64_t cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

uint64_t cpu_ns_of(int pid) {
    char path[300];
    uint64_t total = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks) return 0;
    struct dirent *entry;
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *file = fopen(path, "r");
        unsigned long long run = 0;
        if (file) {
            if (fscanf(file, "%llu", &run) == 1) total += run;
            fclose(file);
        }
    }
    closedir(tasks);
    return total;
}

uint64_t random_u64(void) {
    static uint64_t state;
    if (!state) state = now_ns() | 1;
    state ^= state << 13; /* xorshift64 */
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}
