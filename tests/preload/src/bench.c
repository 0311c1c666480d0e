/* bench connect|udp HOST N: microseconds of CPU and wall time per operation, for tests/preload/bench. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    struct sockaddr_storage a = { 0 };
    struct sockaddr_in *four = (void *)&a;
    struct sockaddr_in6 *six = (void *)&a;
    socklen_t len;
    if (argc < 4) return 2;
    int n = atoi(argv[3]), udp = !strcmp(argv[1], "udp"), stream = !strcmp(argv[1], "stream");
    if (inet_pton(AF_INET, argv[2], &four->sin_addr) == 1) {
        four->sin_family = AF_INET, four->sin_port = htons(udp ? 9999 : 7), len = sizeof *four;
    } else if (inet_pton(AF_INET6, argv[2], &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6, six->sin6_port = htons(udp ? 9999 : 7), len = sizeof *six;
    } else return 2;
    int family = a.ss_family;
    char buf[64] = "x";
    double begin = now();
    if (udp) {
        int s = socket(family, SOCK_DGRAM, 0);
        for (int i = 0; i < n; i++)
            if (sendto(s, buf, sizeof buf, 0, (void *)&a, len) < 0 && errno != ECONNREFUSED) return perror("sendto"), 1;
    } else if (stream) {
        int s = socket(family, SOCK_STREAM, 0);
        if (connect(s, (void *)&a, len)) return perror("connect"), 1;
        begin = now();
        for (int i = 0; i < n; i++)
            if (send(s, buf, sizeof buf, 0) < 0 || recvfrom(s, buf, sizeof buf, MSG_WAITALL, NULL, NULL) <= 0) return perror("stream"), 1;
    } else {
        struct linger l = { 1, 0 };
        for (int i = 0; i < n; i++) {
            /* Not waiting for the answer: the call is measured, not the server. */
            int s = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (connect(s, (void *)&a, len) && errno != EINPROGRESS) return perror("connect"), 1;
            setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l);
            close(s);
        }
    }
    printf("%.3f\n", (now() - begin) / n);
    return 0;
}
