// A client of the tus protocol (https://tus.io): an upload that can be paused, and that goes on after the connection, the
// page or the server was gone.

const ENDPOINT = "/uploads/";
const VERSION = { "Tus-Resumable": "1.0.0" };
const PART = 64 * 1024 * 1024; // bytes of one request. What arrives of an interrupted one counts, too
const WAITS = [500, 1000, 2000, 4000]; // milliseconds before the next attempts

// A refusal that no repetition changes. Its message is for people.
export class Refused extends Error {}

const sleep = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

let limit = null;

// The largest size of a file in bytes, or Infinity if the server cannot be asked.
export async function largest() {
  try {
    limit ??= Number((await fetch(ENDPOINT, { method: "OPTIONS" })).headers.get("Tus-Max-Size") ?? Infinity);
  } catch { /* it is asked again for the next file */ }
  return limit ?? Infinity;
}

export class ResumableUpload {
  #request = null; // that sends bytes
  #paused = false;
  #cancelled = false;
  #wake = null;
  #url = null;

  // `report` is called with "sending" or "waiting" (for the server), and with the number of bytes that are sent.
  constructor(file, report) {
    this.file = file;
    this.report = report;
    // The page knows the file again after it was loaded anew.
    this.key = `upload ${file.name} ${file.size} ${file.lastModified}`;
  }

  pause() {
    this.#paused = true;
    this.#request?.abort();
  }

  resume() {
    this.#paused = false;
    this.#wake?.();
  }

  // Ends the upload, and removes what was sent.
  cancel() {
    this.#cancelled = true;
    this.#request?.abort();
    this.resume();
  }

  // Returns the id of the stored file, or null if the upload was cancelled. Throws Refused.
  async run() {
    this.#url = localStorage.getItem(this.key);
    let failures = 0;
    while (!this.#cancelled) {
      if (this.#paused) await new Promise((resumed) => { this.#wake = resumed; });
      if (this.#cancelled) break;
      try {
        const offset = this.#url ? await this.#offset() : await this.#create();
        if (offset === this.file.size) {
          localStorage.removeItem(this.key);
          return this.#url.split("/").at(-1).slice(0, 24);
        }
        if (offset !== null) await this.#send(offset);
        failures = 0;
      } catch (error) {
        if (error instanceof Refused) {
          localStorage.removeItem(this.key);
          throw error;
        }
        if (this.#paused || this.#cancelled) continue;
        this.report("waiting");
        await sleep(WAITS[Math.min(failures++, WAITS.length - 1)]);
      }
    }
    localStorage.removeItem(this.key);
    if (this.#url) await this.#remove();
    return null;
  }

  async #create() {
    const metadata = `filename ${base64(this.file.name)}` + (this.file.type ? `,filetype ${base64(this.file.type)}` : "");
    const headers = { ...VERSION, "Upload-Length": this.file.size, "Upload-Metadata": metadata };
    const answer = await fetch(ENDPOINT, { method: "POST", headers });
    if (!answer.ok) throw failure(answer.status, await answer.text());
    this.#url = answer.headers.get("Location");
    localStorage.setItem(this.key, this.#url);
    return Number(answer.headers.get("Upload-Offset"));
  }

  // Asks how many bytes the server has. Returns null if it has forgotten the upload, which is begun anew then.
  async #offset() {
    const answer = await fetch(this.#url, { method: "HEAD", headers: VERSION });
    if (answer.status === 404 || answer.status === 410) {
      this.#url = null;
      return null;
    }
    if (!answer.ok) throw failure(answer.status, "");
    return Number(answer.headers.get("Upload-Offset"));
  }

  // fetch does not report the progress of an upload.
  #send(offset) {
    const part = this.file.slice(offset, offset + PART), request = this.#request = new XMLHttpRequest();
    return new Promise((sent, failed) => {
      this.report("sending", offset);
      request.upload.onprogress = (event) => this.report("sending", offset + event.loaded);
      request.onload = () => request.status < 300 ? sent() : failed(failure(request.status, request.responseText));
      request.onerror = request.onabort = () => failed(new Error("the connection broke"));
      request.open("PATCH", this.#url);
      const headers = { ...VERSION, "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(part);
    }).finally(() => { this.#request = null; });
  }

  // The request that was aborted may still hold the upload for a moment.
  async #remove() {
    for (const wait of WAITS) {
      const answer = await fetch(this.#url, { method: "DELETE", headers: VERSION }).catch(() => null);
      if (answer && answer.status !== 423) return;
      await sleep(wait);
    }
  }
}

function failure(status, body) {
  // Another request writes to the upload, has moved its offset, or the server has too much to do: all of that passes.
  if ([408, 409, 423, 429].includes(status) || status >= 500) return new Error(`${status}`);
  let detail = `The server answered with ${status}.`;
  try {
    detail = JSON.parse(body).detail ?? detail;
  } catch { /* the body is not JSON */ }
  return new Refused(detail);
}
