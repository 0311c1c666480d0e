/* corner CASE SERVER [MORE]: corner cases that need C, for tests/preload/corner.py. Prints "ok" at the end.
 * Port 7 of SERVER echoes, port 4444 swallows what it gets. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Without stdio, which calls malloc. */
static void failed(int line, const char *what, int error) {
    char text[200];
    int n = snprintf(text, sizeof text, "line %d: %s (errno %d)\n", line, what, error);
    _exit(write(1, text, n) < 0 ? 2 : 1);
}

#define CHECK(c) do { if (!(c)) failed(__LINE__, #c, errno); } while (0)

static const char *server;

static struct sockaddr_in at(const char *ip, int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    CHECK(inet_pton(AF_INET, ip, &a.sin_addr) == 1);
    return a;
}

static void echo(int s) {
    char b[4];
    CHECK(write(s, "ping", 4) == 4);
    CHECK(recv(s, b, 4, MSG_WAITALL) == 4 && !memcmp(b, "ping", 4));
}

static int dial(int kind, int port) {
    struct sockaddr_in a = at(server, port);
    int s = socket(AF_INET, kind, 0);
    CHECK(s >= 0);
    return connect(s, (void *)&a, sizeof a) && errno != EINPROGRESS ? -1 : s;
}

static void peer_is_server(int s) {
    struct sockaddr_in a = at(server, 7), b;
    socklen_t n = sizeof b;
    CHECK(!getpeername(s, (void *)&b, &n) && n == sizeof b);
    CHECK(b.sin_family == AF_INET && b.sin_port == a.sin_port && b.sin_addr.s_addr == a.sin_addr.s_addr);
}

/* A vfork child connects, also at a number that it has taken from its parent. */
static void case_vfork(void) {
    int s = dial(SOCK_STREAM, 7), status;
    CHECK(s >= 0);
    pid_t child = vfork();
    if (!child) {
        int t = dial(SOCK_STREAM, 7);
        CHECK(t >= 0);
        echo(t);
        peer_is_server(t);
        close(s);
        CHECK(dial(SOCK_STREAM, 7) == s);
        echo(s);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && !status);
    peer_is_server(s);
    echo(s);
}

/* Our own malloc, which cannot be entered twice, is interrupted by a signal whose handler connects. */
static volatile sig_atomic_t in_malloc, interrupt, handled;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static void enter(void) {
    CHECK(!in_malloc);
    in_malloc = 1;
    if (interrupt) raise(SIGUSR1);
}

void *malloc(size_t n) { enter(); void *p = __libc_malloc(n); in_malloc = 0; return p; }
void *calloc(size_t m, size_t n) { enter(); void *p = __libc_calloc(m, n); in_malloc = 0; return p; }
void *realloc(void *q, size_t n) { enter(); void *p = __libc_realloc(q, n); in_malloc = 0; return p; }
void free(void *p) { enter(); __libc_free(p); in_malloc = 0; }

static void handler(int signal) {
    struct sockaddr_in a = at(server, 7), b;
    socklen_t n = sizeof b;
    char data[4];
    (void)signal;
    errno = 4711;
    int s = dial(SOCK_STREAM, 7);
    CHECK(s >= 0 && errno == 4711);
    echo(s);
    peer_is_server(s);
    close(s);
    s = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sendto(s, "ping", 4, 0, (void *)&a, sizeof a) == 4);
    CHECK(recvfrom(s, data, 4, 0, (void *)&b, &n) == 4 && b.sin_family == AF_INET);
    CHECK(errno == 4711);
    close(s);
    handled = handled + 1;
}

static void case_malloc(void) {
    struct sigaction act = { .sa_handler = handler };
    CHECK(!sigaction(SIGUSR1, &act, NULL));
    for (int i = 0; i < 8; i++) {
        interrupt = 1;
        void *p = malloc(100);
        interrupt = 0;
        free(p);
    }
    CHECK(handled == 8);
}

/* A thread is cancelled while its swapped connect waits. */
static volatile int cancelled_fd = -1;

static void *waiting(void *unused) {
    struct sockaddr_in a = at(server, 4444);
    cancelled_fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(cancelled_fd, (void *)&a, sizeof a);
    return unused;
}

static void case_cancel(void) {
    pthread_t thread;
    void *end = NULL;
    int family = 0;
    socklen_t n = sizeof family;
    CHECK(!pthread_create(&thread, NULL, waiting, NULL));
    /* Until the swap is done and the thread waits in the kernel. */
    for (int i = 0; i < 1000 && family != AF_INET6; i++) {
        usleep(10000);
        if (cancelled_fd >= 0) CHECK(!syscall(SYS_getsockopt, cancelled_fd, SOL_SOCKET, SO_DOMAIN, &family, &n));
    }
    CHECK(family == AF_INET6);
    CHECK(!pthread_cancel(thread));
    alarm(20);
    CHECK(!pthread_join(thread, &end) && end == PTHREAD_CANCELED);
    alarm(0);
    CHECK(!close(cancelled_fd));
    int s = dial(SOCK_STREAM, 7);
    CHECK(s >= 0);
    echo(s);
}

/* SO_SNDTIMEO ends a blocking connect, with the kernel's own errno and in time. */
static void case_timeout(void) {
    struct timeval two = { 2, 0 }, begin, end;
    struct sockaddr_in a = at(server, 4444);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(!setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &two, sizeof two));
    gettimeofday(&begin, NULL);
    CHECK(connect(s, (void *)&a, sizeof a) == -1 && errno == EINPROGRESS);
    gettimeofday(&end, NULL);
    double took = end.tv_sec - begin.tv_sec + (end.tv_usec - begin.tv_usec) / 1e6;
    CHECK(took > 1.9 && took < 12);
    CHECK(connect(s, (void *)&a, sizeof a) == -1 && errno == EALREADY);
}

/* A signal ends a blocking connect with EINTR; the connection goes on. */
static void nothing(int signal) { (void)signal; }

static void case_interrupted(void) {
    struct sigaction act = { .sa_handler = nothing };
    struct itimerval soon = { .it_value = { 1, 0 }, .it_interval = { 1, 0 } };
    struct sockaddr_in a = at(server, 4444);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(!sigaction(SIGALRM, &act, NULL) && !setitimer(ITIMER_REAL, &soon, NULL));
    CHECK(connect(s, (void *)&a, sizeof a) == -1 && errno == EINTR);
    CHECK(!fcntl(s, F_SETFL, O_NONBLOCK));
    CHECK(connect(s, (void *)&a, sizeof a) == -1 && errno == EALREADY);
}

/* socket(AF_INET6) is forbidden: the errno is that of the IPv4 connect, and nothing else changes. */
static void case_no_ipv6(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { sizeof code / sizeof *code, code };
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
    struct sockaddr_in a = at(server, 7);
    CHECK(socket(AF_INET6, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT);
    CHECK(dial(SOCK_STREAM, 7) == -1 && errno == ENETUNREACH);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sendto(s, "x", 1, 0, (void *)&a, sizeof a) == -1 && errno == ENETUNREACH);
}

/* What a connect says that must not be touched: argv[3] is the errno. */
static void case_errno(char **argv) {
    int s = dial(SOCK_STREAM, 7), e = errno;
    CHECK(s >= 0 ? atoi(argv[3]) == 0 : e == atoi(argv[3]));
}

/* The errno of a connect and the family that the kernel has for the socket. */
static void case_family(void) {
    struct sockaddr_in a = at(server, 7);
    int s = socket(AF_INET, SOCK_STREAM, 0), family = 0, e = connect(s, (void *)&a, sizeof a) ? errno : 0;
    socklen_t n = sizeof family;
    syscall(SYS_getsockopt, s, SOL_SOCKET, SO_DOMAIN, &family, &n);
    dprintf(1, "%d %d\n", e, family);
    _exit(0);
}

/* Options set where the library cannot see it: before exec, by another process. */
static int options_hold(int s) {
    int on = 0, idle = 0;
    socklen_t n = sizeof on;
    CHECK(!getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, &n) && !getsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &n));
    return on == 1 && idle == 77;
}

static int with_options(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0), on = 1, idle = 77;
    CHECK(!setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    CHECK(!setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
    return s;
}

static void connect_with_options(int s) {
    struct sockaddr_in a = at(server, 7);
    CHECK(!connect(s, (void *)&a, sizeof a));
    peer_is_server(s);
    CHECK(options_hold(s));
    echo(s);
}

static void case_inherited(char **argv) {
    if (argv[3]) {
        connect_with_options(atoi(argv[3]));
        return;
    }
    char number[12];
    snprintf(number, sizeof number, "%d", with_options());
    execl("/proc/self/exe", "corner", "inherited", server, number, NULL);
    CHECK(!"exec");
}

static void case_received(void) {
    int pair[2], status;
    char control[CMSG_SPACE(sizeof(int))] = "", byte = 'x';
    struct iovec io = { &byte, 1 };
    struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    pid_t child = fork();
    if (!child) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        int s = with_options();
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof s);
        memcpy(CMSG_DATA(c), &s, sizeof s);
        CHECK(sendmsg(pair[1], &m, 0) == 1);
        _exit(0);
    }
    /* The number that the received socket will have was a socket without options a moment ago. */
    int before = socket(AF_INET, SOCK_STREAM, 0), s;
    close(before);
    CHECK(recvmsg(pair[0], &m, 0) == 1);
    memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof s);
    CHECK(s == before && waitpid(child, &status, 0) == child && !status);
    connect_with_options(s);
}

static void case_duplicated(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0), on = 1, idle = 77, d = dup(s);
    CHECK(!setsockopt(d, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    CHECK(!setsockopt(d, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
    connect_with_options(s);
    peer_is_server(d);
    CHECK(options_hold(d));
}

/* SIGURG and SIGIO owner and signal travel, however they were set. */
static void case_signals(void) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), t = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = at(server, 7);
    CHECK(!fcntl(s, F_SETOWN, getpid()) && !fcntl(s, F_SETSIG, SIGUSR2));
    CHECK(connect(s, (void *)&a, sizeof a) == -1 && errno == EINPROGRESS);
    CHECK(fcntl(s, F_GETOWN) == getpid() && fcntl(s, F_GETSIG) == SIGUSR2);
    CHECK(connect(t, (void *)&a, sizeof a) == -1 && errno == EINPROGRESS);
    CHECK(fcntl(t, F_GETOWN) == 0 && fcntl(t, F_GETSIG) == 0);
}

/* Closed descriptors: EBADF from every call, also at a number that was a swapped socket. */
static void case_closed(void) {
    struct sockaddr_in a = at(server, 7);
    socklen_t n = sizeof a;
    struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a };
    struct mmsghdr mm = { .msg_hdr = m };
    char b[4];
    int s = dial(SOCK_STREAM, 7), value = 0;
    CHECK(s >= 0 && !close(s));
#define BAD(c) CHECK((errno = 0, (c) == -1) && errno == EBADF)
    BAD(connect(s, (void *)&a, n));
    BAD(bind(s, (void *)&a, n));
    BAD(getpeername(s, (void *)&a, &n));
    BAD(getsockname(s, (void *)&a, &n));
    BAD(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, &n));
    BAD(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
    BAD(setsockopt(s, IPPROTO_IP, IP_TOS, &value, sizeof value));
    n = sizeof a;
    BAD(sendto(s, b, 1, 0, (void *)&a, n));
    BAD(sendmsg(s, &m, 0));
    BAD(sendmmsg(s, &mm, 1, 0));
    BAD(recvfrom(s, b, 1, 0, (void *)&a, &n));
    BAD(recvmsg(s, &m, 0));
    BAD(recvmmsg(s, &mm, 1, 0, NULL));
    BAD(dup(s));
    BAD(dup3(s, 99, 0));
    BAD(fcntl(s, F_GETFL));
}

/* A library whose constructor comes before ours (-DEARLY), and a resolver of an ifunc, which comes before any (-DIFUNC). */
#ifdef EARLY
__attribute__((constructor)) static void early(void) {
    char text[12];
    server = "203.0.113.80";
    int s = dial(SOCK_STREAM, 7);
    snprintf(text, sizeof text, "%d", s < 0 ? errno : 0);
    setenv("EARLY", text, 1);
}
#endif

#ifdef IFUNC
static int chosen(void) { return 1; }
static int (*choose(void))(void) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = 0x0700, .sin_addr.s_addr = 0x507100cb };
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(s, (void *)&a, sizeof a);
    close(s);
    return chosen;
}
int resolved(void) __attribute__((ifunc("choose")));
#else
static int resolved(void) { return 1; }
#endif

static void case_early(void) {
    CHECK(getenv("EARLY") && atoi(getenv("EARLY")) == ENETUNREACH);
    CHECK(resolved() == 1);
    int s = dial(SOCK_STREAM, 7);
    CHECK(s >= 0);
    echo(s);
}

/* Every call that the library has a hook for, for strace to compare; umask marks beginning and end. */
static void case_calls(void) {
    syscall(SYS_umask, 022);
    struct sockaddr_in a = at(server, 7), b;
    socklen_t n = sizeof b;
    int on = 1, value, s, t;
    char buf[8] = "ping";
    struct iovec io = { buf, 4 };
    struct timespec ten = { 10, 0 };
    s = dial(SOCK_STREAM, 7);
    CHECK(s >= 0);
    getpeername(s, (void *)&b, &n), n = sizeof b;
    getsockname(s, (void *)&b, &n), n = sizeof value;
    getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, &n);
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(s, IPPROTO_IP, IP_TOS, &on, sizeof on);
    echo(s);
    CHECK((t = dup(s)) >= 0 && dup2(s, 50) == 50 && dup3(s, 51, O_CLOEXEC) == 51 && fcntl(s, F_DUPFD_CLOEXEC, 60) == 60);
    fcntl(s, F_GETFL), fcntl(s, F_SETFL, O_NONBLOCK);
    connect(s, (void *)&a, sizeof a);
    close(s), close(t), close(50), close(51), close(60);
    int ep = epoll_create1(0);
    struct epoll_event e = { .events = EPOLLOUT }, got;
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
    connect(s, (void *)&a, sizeof a);
    e.events = EPOLLIN, epoll_ctl(ep, EPOLL_CTL_MOD, s, &e), epoll_ctl(ep, EPOLL_CTL_DEL, s, &e);
    (void)got;
    close(s), close(ep);
    s = socket(AF_INET, SOCK_DGRAM, 0);
    b = at("0.0.0.0", 0);
    bind(s, (void *)&b, sizeof b);
    struct mmsghdr m = { .msg_hdr = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &io, .msg_iovlen = 1 } };
    n = sizeof b;
    CHECK(sendto(s, buf, 4, 0, (void *)&a, sizeof a) == 4 && recvfrom(s, buf, 4, 0, (void *)&b, &n) == 4);
    CHECK(sendmsg(s, &m.msg_hdr, 0) == 4 && recvmsg(s, &m.msg_hdr, 0) == 4);
    m.msg_hdr.msg_name = &a, m.msg_hdr.msg_namelen = sizeof a;
    CHECK(sendmmsg(s, &m, 1, 0) == 1 && recvmmsg(s, &m, 1, 0, &ten) == 1);
    connect(s, (void *)&a, sizeof a);
    CHECK(send(s, buf, 4, 0) == 4 && recv(s, buf, 4, 0) == 4);
    close(s);
    /* Exempt destinations: the failed call and nothing else. */
    b = at("127.0.0.1", 1);
    s = socket(AF_INET, SOCK_STREAM, 0), connect(s, (void *)&b, sizeof b), close(s);
    b = at("169.254.7.7", 1);
    s = socket(AF_INET, SOCK_DGRAM, 0), connect(s, (void *)&b, sizeof b), close(s);
    s = socket(AF_INET6, SOCK_DGRAM, 0), close(s);
    syscall(SYS_umask, 022);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    server = argv[2];
#define CASE(n) else if (!strcmp(argv[1], #n)) case_##n
    if (0) {}
    CASE(vfork)(); CASE(malloc)(); CASE(cancel)(); CASE(timeout)(); CASE(interrupted)(); CASE(no_ipv6)();
    CASE(errno)(argv); CASE(family)(); CASE(inherited)(argv); CASE(received)(); CASE(duplicated)(); CASE(signals)(); CASE(closed)();
    CASE(early)(); CASE(calls)();
    else return 2;
    dprintf(1, "ok\n");
    return 0;
}
