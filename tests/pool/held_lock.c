/* A process that forks while another thread holds the pool's lock: the child has a pool all the same. */
#include "pool/internal.h"

#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t locked, forked;

static void *hold(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&ul_pool.lock);
    pthread_barrier_wait(&locked);
    pthread_barrier_wait(&forked);
    pthread_mutex_unlock(&ul_pool.lock);
    return NULL;
}

static void run(ul_job *job) { (void)job; }

static int use_pool(void)
{
    int error;
    ul_job job = {.run = run};
    ul_port *port = ul_port_open(&error);
    if (port == NULL || ul_port_submit(port, &job) != 0)
        return 1;
    struct pollfd readable = {ul_port_fd(port), POLLIN, 0};
    if (poll(&readable, 1, 20000) != 1 || ul_port_take(port) != &job)
        return 2;
    ul_port_close(port);
    return 0;
}

int main(void)
{
    pthread_t holder;
    int status;
    if (use_pool() != 0)
        return 3;
    pthread_barrier_init(&locked, NULL, 2);
    pthread_barrier_init(&forked, NULL, 2);
    if (pthread_create(&holder, NULL, hold, NULL) != 0)
        return 4;
    pthread_barrier_wait(&locked);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(use_pool());
    }
    pthread_barrier_wait(&forked);
    pthread_join(holder, NULL);
    if (waitpid(child, &status, 0) != child || status != 0)
        return 5;
    return use_pool();
}
