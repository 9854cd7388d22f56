package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"
)

// The files that NATS keeps messages in, as far as it takes to see that they are
// whole. A block is one record behind the other:
//
//	4 bytes   length of the record; the highest bit says that it has headers
//	8 bytes   sequence; the two highest bits mark what was erased or removed
//	8 bytes   time
//	2 bytes   length of the subject, which follows
//	4 bytes   length of the headers, if there are any; then these
//	          the message
//	8 bytes   HighwayHash over sequence, time and all texts; its key is made of
//	          the stream's name and the number of the block
//
// All numbers are little-endian. Source: nats-server v2.15.2, server/filestore.go.
const (
	recordHeader = 22
	recordHash   = 8
	hasHeaders   = 1 << 31
	erased       = 1 << 63
	tombstone    = 1 << 62
)

// checkBlocks reads every record that a store has before NATS does. NATS passes
// over one that does not fit its checksum, at times without a word: a used token
// would be good again, a change undone. And over a sequence with a flipped bit it
// takes all the memory there is.
//
// What follows the last record that is whole may be a write that the end of the
// process cut off, if it is the end of the stream's last block and reaches no
// further back than what is known to have been written.
func (g *guard) checkBlocks(ctx context.Context, store string) error {
	// Not filepath.Glob: the folder's name may have a bracket in it.
	files, err := fs.Glob(os.DirFS(store), "jetstream/*/streams/*/msgs/*.blk")
	if err != nil {
		return err
	}
	streams := map[string][]int{} // numbers of the blocks by folder
	for _, f := range files {
		if n, err := strconv.Atoi(strings.TrimSuffix(path.Base(f), ".blk")); err == nil {
			folder := path.Dir(path.Dir(f))
			streams[folder] = append(streams[folder], n)
		}
	}
	for folder, numbers := range streams {
		slices.Sort(numbers)
		name := path.Base(folder)
		var last uint64
		for i, n := range numbers {
			if err := ctx.Err(); err != nil {
				return err
			}
			block, err := os.ReadFile(filepath.Join(store, filepath.FromSlash(folder), "msgs", strconv.Itoa(n)+".blk"))
			if err != nil {
				return err
			}
			highest, whole := readBlock(block, name, n)
			last = max(last, highest)
			if whole == len(block) {
				continue
			}
			if i < len(numbers)-1 || last < g.highest(name) {
				return fmt.Errorf("block %d of %s cannot be read from byte %d on", n, name, whole)
			}
		}
	}
	return nil
}

// readBlock returns the highest sequence in a block and how many of its bytes are
// records that are whole.
func readBlock(block []byte, stream string, number int) (highest uint64, whole int) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		panic(err) // the key has the wrong length, and it has not
	}
	for rest := block; len(rest) >= recordHeader+recordHash; rest = block[whole:] {
		length := binary.LittleEndian.Uint32(rest)
		size := int(length &^ hasHeaders)
		subject := int(binary.LittleEndian.Uint16(rest[20:]))
		text := recordHeader + subject
		if length&hasHeaders != 0 {
			text += 4
		}
		if size > len(rest) || text+recordHash > size {
			return highest, whole
		}
		hash.Reset()
		hash.Write(rest[4:20])
		hash.Write(rest[recordHeader : recordHeader+subject])
		hash.Write(rest[text : size-recordHash])
		if !bytes.Equal(hash.Sum(nil), rest[size-recordHash:size]) {
			return highest, whole
		}
		highest = max(highest, binary.LittleEndian.Uint64(rest[4:])&^(erased|tombstone))
		whole += size
	}
	return highest, whole
}
