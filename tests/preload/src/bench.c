/* bench WHAT HOST N: microseconds of wall time per operation, for tests/preload/bench. WHAT:
 *   connect   socket, non-blocking connect, SO_LINGER, close; nobody waits for the server
 *   options   the same with four options set before the connect, as HTTP clients do
 *   epoll     the same with an epoll registration before the connect, as Java NIO and nginx do
 *   unseen    the same with a socket that libc did not make (as one inherited or received)
 *   blocking  socket, connect that waits for the server, SO_LINGER, close; the median, because a lost SYN costs a second
 *   udp       sendto on one socket
 *   stream    send and recv on one connection */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int shorter(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
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
        int blocking = !strcmp(argv[1], "blocking"), unseen = !strcmp(argv[1], "unseen"), on = 1, idle = 60;
        int options = !strcmp(argv[1], "options"), ep = strcmp(argv[1], "epoll") ? -1 : epoll_create1(0);
        double *took = calloc(n, sizeof *took);
        int kind = blocking ? SOCK_STREAM : SOCK_STREAM | SOCK_NONBLOCK;
        for (int i = 0; i < n; i++) {
            double start = blocking ? now() : 0;
            int s = unseen ? syscall(SYS_socket, family, kind, 0) : socket(family, kind, 0);
            if (options) {
                setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
                setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
                setsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
            }
            if (ep >= 0) {
                struct epoll_event e = { .events = EPOLLOUT, .data.fd = s };
                epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
            }
            if (connect(s, (void *)&a, len) && errno != EINPROGRESS) return perror("connect"), 1;
            setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l);
            close(s);
            if (blocking) took[i] = now() - start;
        }
        if (blocking) {
            qsort(took, n, sizeof *took, shorter);
            return printf("%.3f\n", took[n / 2]) < 0;
        }
    }
    printf("%.3f\n", (now() - begin) / n);
    return 0;
}
