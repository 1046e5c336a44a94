/*
 * The peer of a conversation: it sends back what it receives on its standard input, a socket, until that ends.
 */
#include <unistd.h>

int main(void) {
    static char bytes[65536];
    for (;;) {
        ssize_t size = read(0, bytes, sizeof(bytes));
        if (size <= 0) return 0;
        for (ssize_t sent = 0, written; sent < size; sent += written) {
            written = write(0, bytes + sent, (size_t)(size - sent));
            if (written <= 0) return 1;
        }
    }
}
