// What a test asks of tus-js-client, as one JSON argument. Prints one line for each event.
import { createRequire } from 'node:module'
import { createReadStream } from 'node:fs'
import { PassThrough } from 'node:stream'

const asked = JSON.parse(process.argv[2])
const tus = createRequire(asked.modules + '/')('tus-js-client')
const say = (event, value) => console.log(JSON.stringify([event, value ?? null]))

// It learns the length of a file, but not of another stream.
const file = createReadStream(asked.path)
const upload = new tus.Upload(asked.deferred ? file.pipe(new PassThrough()) : file, {
  endpoint: asked.endpoint,
  uploadUrl: asked.url,
  uploadLengthDeferred: asked.deferred ?? false,
  uploadDataDuringCreation: asked.during ?? false,
  headers: asked.headers ?? {},
  metadata: asked.metadata ?? {},
  chunkSize: asked.chunkSize,
  retryDelays: [0, 100, 500, 1000, 2000, 4000],
  onUploadUrlAvailable: () => say('url', upload.url),
  onChunkComplete: (size, accepted) => {
    say('chunk', accepted)
    if (asked.stopAt && accepted >= asked.stopAt) upload.abort().then(() => say('stopped', accepted))
  },
  onError: (error) => say('error', error.originalResponse?.getStatus() ?? String(error)),
  onSuccess: () => say('success', upload.url),
})
if (asked.terminate) await tus.Upload.terminate(asked.url, { headers: asked.headers ?? {} }).then(() => say('terminated'))
else upload.start()
