// Serves the page and the modules that it loads. An application would bundle them.
import { readFile } from 'node:fs/promises';

const modules = /^\/node_modules\/(amazon-ivs-chat-messaging|uuid)\/(?!.*\.\.)[\w./-]+\.js$/;

export async function page(request, response) {
  const { pathname } = new URL(request.url, 'http://page');
  const file = pathname === '/' ? ['./index.html', 'text/html'] : modules.test(pathname) ? [`.${pathname}`, 'text/javascript'] : undefined;
  try {
    const body = await readFile(new URL(file[0], import.meta.url));
    response.writeHead(200, { 'content-type': file[1] }).end(body);
  } catch {
    response.writeHead(404, { 'content-type': 'text/plain' }).end(`nothing at ${pathname}\n`);
  }
}
