"""The backend on epoll(7): what only it can do wrong."""
