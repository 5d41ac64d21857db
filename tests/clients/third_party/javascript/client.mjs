// The AWS SDK for JavaScript v3 against an S3 endpoint: node client.mjs ENDPOINT BUCKET REGION STEP. One step a run; it checks its own
// bytes and throws when something is not as S3 has it. Nothing of the SDK's defaults is changed but path style and retries.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import * as sdk from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';

const [endpoint, Bucket, region, step] = process.argv.slice(2);
const s3 = new sdk.S3Client({ endpoint, region, forcePathStyle: true, maxAttempts: 1 });
const MIB = 1 << 20;

const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function holds(Key, body) {
  const head = await s3.send(new sdk.HeadObjectCommand({ Bucket, Key }));
  assert.equal(head.ContentLength, body.length, `${Key}: size in HEAD`);
  const got = await s3.send(new sdk.GetObjectCommand({ Bucket, Key }));
  assert.equal(digest(await got.Body.transformToByteArray()), digest(body), `${Key}: bytes`);
  return head;
}

const steps = {
  async put() {
    for (const size of [0, 1, 65535, 65536, 65537, 300000]) {
      const Body = randomBytes(size);
      const Key = `put/ü a+b ${size}`;
      await s3.send(new sdk.PutObjectCommand({ Bucket, Key, Body, ContentType: 'text/x-test', Metadata: { colour: 'blue' } }));
      const head = await holds(Key, Body);
      assert.equal(head.ContentType, 'text/x-test');
      assert.deepEqual(head.Metadata, { colour: 'blue' });
    }
    const body = randomBytes(100000);
    for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
      await s3.send(new sdk.PutObjectCommand({ Bucket, Key: 'sum', Body: body, ChecksumAlgorithm }));
      const got = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: 'sum', ChecksumMode: 'ENABLED' }));
      assert.ok(got[`Checksum${ChecksumAlgorithm}`], `${ChecksumAlgorithm} is given back`);
      assert.equal(digest(await got.Body.transformToByteArray()), digest(body));
    }
  },

  async ranges() {
    const body = randomBytes(400000);
    await s3.send(new sdk.PutObjectCommand({ Bucket, Key: 'ranges', Body: body }));
    for (const [Range, from, to] of [['bytes=0-0', 0, 1], ['bytes=65530-65541', 65530, 65542], ['bytes=399990-', 399990, 400000], ['bytes=-70000', 330000, 400000]]) {
      const got = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: 'ranges', Range }));
      assert.equal(got.ContentLength, to - from);
      assert.equal(digest(await got.Body.transformToByteArray()), digest(body.subarray(from, to)), Range);
    }
    await assert.rejects(s3.send(new sdk.GetObjectCommand({ Bucket, Key: 'ranges', Range: 'bytes=400000-' })), { name: 'InvalidRange' });
  },

  async list() {
    const want = { 'list/a': 1, 'list/b c': 65537, 'list/d/e+f': 70000, 'list/g': 0 };
    for (const [Key, size] of Object.entries(want)) await s3.send(new sdk.PutObjectCommand({ Bucket, Key, Body: randomBytes(size) }));
    const seen = {};
    for await (const page of sdk.paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket, Prefix: 'list/' })) {
      for (const entry of page.Contents ?? []) seen[entry.Key] = entry.Size;
    }
    assert.deepEqual(seen, want);
    const top = await s3.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: 'list/', Delimiter: '/' }));
    assert.deepEqual(top.CommonPrefixes.map((entry) => entry.Prefix), ['list/d/']);
    await s3.send(new sdk.DeleteObjectsCommand({ Bucket, Delete: { Objects: Object.keys(want).map((Key) => ({ Key })) } }));
    assert.equal((await s3.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: 'list/' }))).KeyCount, 0);
  },

  // lib-storage below its part size: one PUT of a stream whose length is known only at its end.
  async small_upload() {
    const body = randomBytes(200001);
    await new Upload({ client: s3, params: { Bucket, Key: 'small', Body: Readable.from([body.subarray(0, 7), body.subarray(7)]) } }).done();
    await holds('small', body);
  },

  async upload() {
    const body = randomBytes(17 * MIB + 4321);
    const pieces = (function* () {
      for (let at = 0; at < body.length; at += 1_000_003) yield body.subarray(at, at + 1_000_003);
    })();
    for (const [Key, Body] of [['buffer', body], ['stream', Readable.from(pieces)]]) {
      const parts = [];
      const upload = new Upload({ client: s3, params: { Bucket, Key, Body }, queueSize: 4, partSize: 5 * MIB });
      upload.on('httpUploadProgress', (progress) => parts.push(progress.part));
      await upload.done();
      assert.equal(new Set(parts).size, 4);
      await holds(Key, body);
      const listed = await s3.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: Key }));
      assert.equal(listed.Contents[0].Size, body.length);
    }
  },

  async abort() {
    const upload = new Upload({ client: s3, params: { Bucket, Key: 'aborted', Body: randomBytes(11 * MIB) }, partSize: 5 * MIB, queueSize: 1 });
    upload.on('httpUploadProgress', () => upload.abort());
    await assert.rejects(upload.done(), { name: 'AbortError' });
    await assert.rejects(s3.send(new sdk.HeadObjectCommand({ Bucket, Key: 'aborted' })), { name: 'NotFound' });
    const open = await s3.send(new sdk.ListMultipartUploadsCommand({ Bucket }));
    for (const { Key, UploadId } of open.Uploads ?? []) await s3.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }));
    assert.equal((await s3.send(new sdk.ListMultipartUploadsCommand({ Bucket }))).Uploads, undefined);
  },

  async copy() {
    const body = randomBytes(200000);
    await s3.send(new sdk.PutObjectCommand({ Bucket, Key: 'from a+b', Body: body, Metadata: { colour: 'blue' } }));
    await s3.send(new sdk.CopyObjectCommand({ Bucket, Key: 'to', CopySource: encodeURI(`${Bucket}/from a+b`).replace('+', '%2B') }));
    assert.deepEqual((await holds('to', body)).Metadata, { colour: 'blue' });
  },

  // Presigned as the SDK does it by default: with the CRC32 of an empty body in the URL, which S3 ignores.
  async presigned() {
    const body = randomBytes(70000);
    const put = await getSignedUrl(s3, new sdk.PutObjectCommand({ Bucket, Key: 'presigned a+b' }), { expiresIn: 300 });
    const sent = await fetch(put, { method: 'PUT', body });
    assert.equal(sent.status, 200, await sent.text());
    const get = await getSignedUrl(s3, new sdk.GetObjectCommand({ Bucket, Key: 'presigned a+b' }), { expiresIn: 300 });
    const got = await fetch(get);
    assert.equal(digest(new Uint8Array(await got.arrayBuffer())), digest(body));
  },

  async form() {
    const body = randomBytes(70000);
    const post = await createPresignedPost(s3, { Bucket, Key: 'form', Conditions: [['content-length-range', 1, MIB]], Expires: 300 });
    const form = new FormData();
    for (const [name, value] of Object.entries(post.fields)) form.append(name, value);
    form.append('file', new Blob([body]));
    const answer = await fetch(post.url, { method: 'POST', body: form });
    assert.equal(answer.status, 204, await answer.text());
    await holds('form', body);
  },
};

await steps[step]();
console.log(JSON.stringify({ step }));
