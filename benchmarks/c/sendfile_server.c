/*
 * The limit for sendfile: a server that sends a file for each byte that comes, to one connection at a time.
 *
 *     sendfile_server ADDRESS --file FILE
 *
 * sendfile(2) on a non-blocking socket, and poll(2) where that is full, or where nothing has come.
 */
#include "common.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static void wait_for(int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    if (poll(&one, 1, -1) < 0) die("poll: %m");
}

static bool send_file(int fd, int file, off_t size) {
    for (off_t offset = 0; offset < size;) {
        ssize_t sent = sendfile(fd, file, &offset, (size_t)(size - offset));
        if (sent < 0 && errno == EAGAIN) wait_for(fd, POLLOUT);
        else if (sent <= 0) return false;
    }
    return true;
}

static void serve(int fd, int file) {
    struct stat status;
    for (char byte;;) {
        wait_for(fd, POLLIN);
        if (recv(fd, &byte, 1, 0) != 1 || fstat(file, &status) < 0 || !send_file(fd, file, status.st_size)) return;
    }
}

int main(int argc, char **argv) {
    if (argc != 4 || strcmp(argv[2], "--file")) die("usage: sendfile_server ADDRESS --file FILE");
    struct address address = parse_address(argv[1]);
    int listener = listen_at(argv[1], 0), file = open(argv[3], O_RDONLY | O_CLOEXEC);
    if (file < 0) die("%s: %m", argv[3]);
    unpaced(listener, &address);
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED;) {
        if (fd < 0) continue;
        no_delay(fd, &address);
        serve(fd, file);
        close(fd);
    }
    die("accept: %m");
}
