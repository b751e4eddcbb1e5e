// Asks golang.org/x/mod/sumdb, which knows nothing of Chainring, what it makes of our notes, proofs and tiles.
//
// A question on each line of the standard input, an answer on each line of the standard output: "yes", with what was asked for, or "no" and why.
// Bytes are base64, and "-" stands for none.
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Hashes of a whole tile are 2 to the power of this: all that C2SP tlog-tiles has.
const tileHeight = 8

// Proofs are taken from tiles for one record in so many, a number that divides nothing.
const tileStride = 13

// What is read of a line; the first thing that is wrong stays.
type question struct {
	fields []string
	err    error
}

func (q *question) next() string {
	if len(q.fields) == 0 {
		q.err = errors.New("a field is missing")
		return ""
	}
	field := q.fields[0]
	q.fields = q.fields[1:]
	return field
}

func (q *question) bytes() []byte {
	field := q.next()
	if field == "-" {
		return nil
	}
	decoded, err := base64.StdEncoding.DecodeString(field)
	if err != nil {
		q.err = err
	}
	return decoded
}

func (q *question) number() int64 {
	number, err := strconv.ParseInt(q.next(), 10, 64)
	if err != nil {
		q.err = err
	}
	return number
}

func (q *question) hash() (hash tlog.Hash) {
	if decoded := q.bytes(); copy(hash[:], decoded) != len(decoded) || len(decoded) != tlog.HashSize {
		q.err = errors.New("not a hash")
	}
	return hash
}

func (q *question) hashes() []tlog.Hash {
	decoded := q.bytes()
	hashes := make([]tlog.Hash, len(decoded)/tlog.HashSize)
	for i := range hashes {
		copy(hashes[i][:], decoded[i*tlog.HashSize:])
	}
	return hashes
}

// Tiles in a directory, by the names that C2SP tlog-tiles gives them: the height, which is always the same, is not in them.
type tiles string

func (directory tiles) Height() int { return tileHeight }

func (directory tiles) ReadTiles(wanted []tlog.Tile) (read [][]byte, err error) {
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
		content, err := os.ReadFile(filepath.Join(string(directory), path))
		if err != nil {
			return nil, err
		}
		read = append(read, content)
	}
	return read, nil
}

func (directory tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// Makes proofs from tiles alone, and checks them.
func (directory tiles) prove(tree tlog.Tree) error {
	reader := tlog.TileHashReader(tree, directory)
	for n := int64(0); n < tree.N; n += tileStride {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, n)})
		if err != nil {
			return err
		}
		record, err := tlog.ProveRecord(tree.N, n, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(record, tree.N, tree.Hash, n, hashes[0]); err != nil {
			return err
		}
		old, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, n+1, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, n+1, old); err != nil {
			return err
		}
	}
	return nil
}

func answer(line string) (said string, err error) {
	q := &question{fields: strings.Fields(line)}
	switch kind := q.next(); kind {
	case "key": // name
		private, public, err := note.GenerateKey(rand.Reader, q.next())
		return private + " " + public, err
	case "sign": // private key, text
		private, text := q.next(), q.bytes()
		signer, err := note.NewSigner(private)
		if err != nil {
			return "", err
		}
		signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
		return base64.StdEncoding.EncodeToString(signed), err
	case "note": // public key, note
		public, signed := q.next(), q.bytes()
		verifier, err := note.NewVerifier(public)
		if err != nil {
			return "", err
		}
		opened, err := note.Open(signed, note.VerifierList(verifier))
		if err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString([]byte(opened.Text)), nil
	case "record": // size, root, index, leaf, path
		size, root, index, leaf, path := q.number(), q.hash(), q.number(), q.bytes(), q.hashes()
		if q.err != nil {
			return "", q.err
		}
		return "", tlog.CheckRecord(path, size, root, index, tlog.RecordHash(leaf))
	case "tree": // size, root, earlier size, earlier root, path
		size, root, earlier, earlierRoot, path := q.number(), q.hash(), q.number(), q.hash(), q.hashes()
		if q.err != nil {
			return "", q.err
		}
		return "", tlog.CheckTree(path, size, root, earlier, earlierRoot)
	case "tiles": // size, root, directory
		tree := tlog.Tree{N: q.number(), Hash: q.hash()}
		directory := tiles(q.next())
		if q.err != nil {
			return "", q.err
		}
		return "", directory.prove(tree)
	default:
		return "", fmt.Errorf("what is %q?", kind)
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		said, err := answer(lines.Text())
		if err != nil {
			fmt.Println("no", string(bytes.ReplaceAll([]byte(err.Error()), []byte("\n"), []byte(" "))))
		} else {
			fmt.Println(strings.TrimSpace("yes " + said))
		}
	}
}
