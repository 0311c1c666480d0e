/* A plain blocking client, for musl and for 32 bits: prints "ok" when the echo server answers. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7) };
    char b[3] = "";
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 2 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1) return 2;
    if (connect(s, (struct sockaddr *)&a, sizeof a) || write(s, "ok", 2) != 2 || read(s, b, 2) != 2) { perror("tcp"); return 1; }
    return puts(b) < 0;
}
