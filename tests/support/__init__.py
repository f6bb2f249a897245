"""What tests share: processes, servers, applications that are killed, and how long each test takes."""
