// The broadcast example of ws: what comes in goes to every client of the room,
// which is the path.
import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const server = createServer();
const wss = new WebSocketServer({ server });
const rooms = new Map();

wss.on("connection", (client, request) => {
  let clients = rooms.get(request.url);
  if (!clients) rooms.set(request.url, (clients = new Set()));
  clients.add(client);
  client.on("error", () => {});
  client.on("close", () => clients.delete(client));
  client.on("message", (data, isBinary) => {
    for (const c of clients) {
      if (c.readyState === WebSocket.OPEN) c.send(data, { binary: isBinary });
    }
  });
});

server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(JSON.stringify({ messaging: `ws://127.0.0.1:${server.address().port}` }));
});
