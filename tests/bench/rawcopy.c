/*
 * The bytes of a file over a bare socket: what any transfer can at best be as fast as.
 *
 *     rawcopy serve FILE          listens on a port of the loopback interface, prints it, and sends FILE to all who ask
 *     rawcopy fetch PORT FILE     asks for it, and writes it into the new file FILE
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (1 << 20)

static char buffer[CHUNK];

static struct sockaddr_in loopback(unsigned port)
{
        return (struct sockaddr_in){
                .sin_family = AF_INET,
                .sin_port = htons((uint16_t)port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
}

static int listen_somewhere(void)
{
        struct sockaddr_in address = loopback(0);
        socklen_t length = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &length) < 0)
                err(1, "a socket to listen on");
        printf("port %u\n", ntohs(address.sin_port));
        fflush(stdout);
        return fd;
}

/* Waits for the one byte that asks for it, then sends all of PATH. */
static void answer(int client, const char *path)
{
        ssize_t n;
        char asked;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                err(1, "%s", path);
        n = recv(client, &asked, 1, 0);
        while (n > 0)
                n = sendfile(client, fd, NULL, CHUNK);
        if (n < 0)
                warn("%s", path);
        close(fd);
}

static void serve(const char *path)
{
        int fd = listen_somewhere();

        for (;;) {
                int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

                if (client < 0)
                        err(1, "accept");
                answer(client, path);
                close(client);
        }
}

static void write_all(int fd, const char *data, size_t left)
{
        while (left > 0) {
                ssize_t n = write(fd, data, left);

                if (n < 0)
                        err(1, "write");
                data += n;
                left -= (size_t)n;
        }
}

static void fetch(unsigned port, const char *path)
{
        struct sockaddr_in address = loopback(port);
        ssize_t n;
        int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (s < 0 || fd < 0)
                err(1, "%s", path);
        if (connect(s, (struct sockaddr *)&address, sizeof(address)) < 0 || send(s, "", 1, 0) != 1)
                err(1, "port %u", port);
        while ((n = recv(s, buffer, sizeof(buffer), 0)) > 0)
                write_all(fd, buffer, (size_t)n);
        if (n < 0 || close(fd) < 0)
                err(1, "port %u", port);
}

int main(int argc, char **argv)
{
        if (argc == 3 && strcmp(argv[1], "serve") == 0)
                serve(argv[2]);
        else if (argc == 4 && strcmp(argv[1], "fetch") == 0)
                fetch((unsigned)atoi(argv[2]), argv[3]);
        else
                errx(1, "serve FILE, or fetch PORT FILE");
        return 0;
}
