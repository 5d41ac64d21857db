// minio-go against an S3 endpoint: minio_go ENDPOINT BUCKET REGION STEP. One step a run; it checks its own bytes, and ends with 1 and a
// sentence when something is not as S3 has it. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const mib = 1 << 20

type run struct {
	ctx    context.Context
	s3     *minio.Client
	bucket string
}

var steps = map[string]func(*run) error{
	"put":       (*run).put,
	"stream":    (*run).stream,
	"multipart": (*run).multipart,
	"ranges":    (*run).ranges,
	"list":      (*run).list,
	"copy":      (*run).copies,
	"compose":   (*run).compose,
	"presigned": (*run).presigned,
	"form":      (*run).form,
	"remove":    (*run).remove,
}

func main() {
	endpoint, err := url.Parse(os.Args[1])
	check(err)
	// The default transport, so that MinIO's own trailing checksums are sent as a program with no options sends them.
	s3, err := minio.New(endpoint.Host, &minio.Options{
		Creds:           credentials.NewEnvAWS(),
		Region:          os.Args[3],
		Secure:          endpoint.Scheme == "https",
		BucketLookup:    minio.BucketLookupPath,
		TrailingHeaders: true,
		MaxRetries:      1,
	})
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	step := steps[os.Args[4]]
	if step == nil {
		check(fmt.Errorf("no step %q", os.Args[4]))
	}
	check(step(&run{ctx, s3, os.Args[2]}))
	check(json.NewEncoder(os.Stdout).Encode(map[string]string{"step": os.Args[4]}))
}

func check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v (%#v)\n", err, minio.ToErrorResponse(err))
		os.Exit(1)
	}
}

func payload(size int, seed int64) []byte {
	body := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(body)
	return body
}

func (r *run) upload(key string, body []byte, options minio.PutObjectOptions) error {
	_, err := r.s3.PutObject(r.ctx, r.bucket, key, bytes.NewReader(body), int64(len(body)), options)
	return err
}

// holds reads the object whole and compares it, and what HEAD says of its size.
func (r *run) holds(key string, body []byte) error {
	stat, err := r.s3.StatObject(r.ctx, r.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return fmt.Errorf("stat %s: %w", key, err)
	}
	if stat.Size != int64(len(body)) {
		return fmt.Errorf("stat %s: %d bytes, not %d", key, stat.Size, len(body))
	}
	object, err := r.s3.GetObject(r.ctx, r.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer object.Close()
	got, err := io.ReadAll(object)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("get %s: other bytes", key)
	}
	return nil
}

func (r *run) put() error {
	for _, size := range []int{0, 1, 65535, 65536, 65537, 300000} {
		body := payload(size, int64(size))
		key := fmt.Sprintf("put/a b+%d", size)
		for _, options := range []minio.PutObjectOptions{
			{ContentType: "text/x-test", UserMetadata: map[string]string{"Colour": "blue"}},
			{SendContentMd5: true},
			{Checksum: minio.ChecksumCRC32C},
			{Checksum: minio.ChecksumSHA256},
			{DisableContentSha256: true},
		} {
			if err := r.upload(key, body, options); err != nil {
				return fmt.Errorf("put %d bytes with %+v: %w", size, options, err)
			}
			if err := r.holds(key, body); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) stream() error {
	body := payload(300000, 7)
	_, err := r.s3.PutObject(r.ctx, r.bucket, "stream", io.MultiReader(bytes.NewReader(body)), -1, minio.PutObjectOptions{PartSize: 5 * mib})
	if err != nil {
		return err
	}
	return r.holds("stream", body)
}

func (r *run) multipart() error {
	body := payload(17*mib+4321, 1)
	for _, options := range []minio.PutObjectOptions{
		{PartSize: 5 * mib, NumThreads: 4},
		{PartSize: 5 * mib, Checksum: minio.ChecksumCRC32C},
		{PartSize: 6 * mib, ConcurrentStreamParts: true, NumThreads: 3},
	} {
		if err := r.upload("multipart", body, options); err != nil {
			return fmt.Errorf("multipart with %+v: %w", options, err)
		}
		if err := r.holds("multipart", body); err != nil {
			return err
		}
	}
	for upload := range r.s3.ListIncompleteUploads(r.ctx, r.bucket, "", true) {
		return fmt.Errorf("left unfinished: %+v", upload)
	}
	return nil
}

func (r *run) ranges() error {
	body := payload(400000, 2)
	if err := r.upload("ranges", body, minio.PutObjectOptions{}); err != nil {
		return err
	}
	object, err := r.s3.GetObject(r.ctx, r.bucket, "ranges", minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer object.Close()
	for _, place := range [][2]int{{0, 1}, {65530, 12}, {399990, 10}, {131072, 65536}} {
		piece := make([]byte, place[1])
		if _, err := object.ReadAt(piece, int64(place[0])); err != nil && err != io.EOF {
			return fmt.Errorf("read at %v: %w", place, err)
		}
		if !bytes.Equal(piece, body[place[0]:place[0]+place[1]]) {
			return fmt.Errorf("read at %v: other bytes", place)
		}
	}
	return nil
}

func (r *run) list() error {
	want := map[string]int64{"list/a": 1, "list/b c": 65537, "list/d/e+f": 70000, "list/g": 0}
	for key, size := range want {
		if err := r.upload(key, payload(int(size), size), minio.PutObjectOptions{}); err != nil {
			return err
		}
	}
	for _, useV1 := range []bool{false, true} {
		seen := map[string]int64{}
		for entry := range r.s3.ListObjects(r.ctx, r.bucket, minio.ListObjectsOptions{Prefix: "list/", Recursive: true, UseV1: useV1, MaxKeys: 3}) {
			if entry.Err != nil {
				return entry.Err
			}
			seen[entry.Key] = entry.Size
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			return fmt.Errorf("listed (v1: %v) %v, not %v", useV1, seen, want)
		}
	}
	return nil
}

func (r *run) copies() error {
	body := payload(200000, 3)
	if err := r.upload("from a+b", body, minio.PutObjectOptions{UserMetadata: map[string]string{"Colour": "blue"}}); err != nil {
		return err
	}
	source := minio.CopySrcOptions{Bucket: r.bucket, Object: "from a+b"}
	if _, err := r.s3.CopyObject(r.ctx, minio.CopyDestOptions{Bucket: r.bucket, Object: "to"}, source); err != nil {
		return err
	}
	replaced := minio.CopyDestOptions{Bucket: r.bucket, Object: "to2", ReplaceMetadata: true, UserMetadata: map[string]string{"Colour": "red"}}
	if _, err := r.s3.CopyObject(r.ctx, replaced, source); err != nil {
		return err
	}
	for key, colour := range map[string]string{"to": "blue", "to2": "red"} {
		stat, err := r.s3.StatObject(r.ctx, r.bucket, key, minio.StatObjectOptions{})
		if err != nil {
			return err
		}
		if stat.UserMetadata["Colour"] != colour {
			return fmt.Errorf("%s has the metadata %v", key, stat.UserMetadata)
		}
		if err := r.holds(key, body); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) compose() error {
	first, second := payload(5*mib+9, 4), payload(100000, 5)
	if err := r.upload("first", first, minio.PutObjectOptions{DisableMultipart: true}); err != nil {
		return err
	}
	if err := r.upload("second", second, minio.PutObjectOptions{}); err != nil {
		return err
	}
	_, err := r.s3.ComposeObject(r.ctx, minio.CopyDestOptions{Bucket: r.bucket, Object: "both"},
		minio.CopySrcOptions{Bucket: r.bucket, Object: "first"},
		minio.CopySrcOptions{Bucket: r.bucket, Object: "second", MatchRange: true, Start: 65000, End: 99999})
	if err != nil {
		return err
	}
	return r.holds("both", append(append([]byte{}, first...), second[65000:]...))
}

func (r *run) presigned() error {
	body := payload(70000, 6)
	put, err := r.s3.PresignedPutObject(r.ctx, r.bucket, "presigned a+b", 5*time.Minute)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(r.ctx, http.MethodPut, put.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := expect(request, http.StatusOK, nil); err != nil {
		return err
	}
	get, err := r.s3.PresignedGetObject(r.ctx, r.bucket, "presigned a+b", 5*time.Minute, url.Values{"response-content-type": {"text/x-test"}})
	if err != nil {
		return err
	}
	request, err = http.NewRequestWithContext(r.ctx, http.MethodGet, get.String(), nil)
	if err != nil {
		return err
	}
	return expect(request, http.StatusOK, body)
}

func (r *run) form() error {
	body := payload(70000, 8)
	policy := minio.NewPostPolicy()
	check(policy.SetBucket(r.bucket))
	check(policy.SetKey("form"))
	check(policy.SetExpires(time.Now().Add(5 * time.Minute)))
	check(policy.SetContentLengthRange(1, mib))
	target, fields, err := r.s3.PresignedPostPolicy(r.ctx, policy)
	if err != nil {
		return err
	}
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	for name, value := range fields {
		check(writer.WriteField(name, value))
	}
	file, err := writer.CreateFormFile("file", "name")
	check(err)
	_, err = file.Write(body)
	check(err)
	check(writer.Close())
	request, err := http.NewRequestWithContext(r.ctx, http.MethodPost, target.String(), &form)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", writer.FormDataContentType())
	if err := expect(request, http.StatusNoContent, nil); err != nil {
		return err
	}
	return r.holds("form", body)
}

func expect(request *http.Request, status int, body []byte) error {
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != status {
		return fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, answer.Status, got)
	}
	if body != nil && !bytes.Equal(got, body) {
		return fmt.Errorf("%s: other bytes", request.URL.Path)
	}
	return nil
}

func (r *run) remove() error {
	entries := make(chan minio.ObjectInfo, 20)
	for number := range 20 {
		key := fmt.Sprintf("remove/%d &+", number)
		if err := r.upload(key, payload(number, 9), minio.PutObjectOptions{}); err != nil {
			return err
		}
		entries <- minio.ObjectInfo{Key: key}
	}
	close(entries)
	for failed := range r.s3.RemoveObjects(r.ctx, r.bucket, entries, minio.RemoveObjectsOptions{}) {
		return fmt.Errorf("%s: %w", failed.ObjectName, failed.Err)
	}
	for entry := range r.s3.ListObjects(r.ctx, r.bucket, minio.ListObjectsOptions{Prefix: "remove/", Recursive: true}) {
		return fmt.Errorf("still there: %+v", entry)
	}
	_, err := r.s3.StatObject(r.ctx, r.bucket, "remove/1 &+", minio.StatObjectOptions{})
	if code := minio.ToErrorResponse(err).Code; code != minio.NoSuchKey {
		return fmt.Errorf("stat of a removed object: %v", err)
	}
	return nil
}
