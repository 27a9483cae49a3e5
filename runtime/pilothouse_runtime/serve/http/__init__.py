"""An HTTP/1.1 server for answers that come later, without a coroutine for each request."""
