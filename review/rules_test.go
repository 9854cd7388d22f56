package review

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func compiled(t testing.TB, r Rules) *ruleSet {
	t.Helper()
	set, err := r.compile()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// One list, and what it finds and leaves alone.
func TestWordsAreFoundWholeAndThroughObfuscation(t *testing.T) {
	set := compiled(t, Rules{DenyWords: []string{"spam", "ass", "scam", "bad phrase", "1", "88", "ill", "Straße", "f-bomb", "c#", "🍆", "垃圾", "café", "al", "god",
		"σοφός", "sh!t", "hell", "isis", "boob", "до", "ば"}})
	for _, c := range []struct {
		name, text string
		found      bool
	}{
		{"as it is", "spam", true},
		{"in a sentence", "this is spam, friends", true},
		{"any letter case", "SpAm", true},
		{"between punctuation", "(spam)!", true},
		{"in markdown", "**spam** _spam_", true},
		{"its genitive", "spam's", true},
		{"in an address", "joe@spam.example", true},
		{"behind a currency or a hash", "#spam", true},

		{"within a longer word", "spammer antispam", false},
		{"in the middle of a word", "class passage assume", false},
		{"Scunthorpe has cunt, Essex has sex, Penistone has more", "Assam assassin Cassandra", false},
		{"with a number at its end", "spam2000", false},
		{"two words that make it", "spa m", false},
		{"split with letters left together", "sp.am", false},
		{"across a contraction", "he'll", false},

		{"digits for letters", "sp4m 5pam", true},
		{"digits for letters, all that may be", "5p4m", true},
		{"symbols for letters", "sp@m $pam $p@m", true},
		{"a symbol at its end", "a$$", true},
		{"! for i", "!ll", true},
		{"1 for l and i", "i1l 1ll", true},
		{"| for l", "he||", true},
		{"a symbol that goes on", "a$$et", false},
		{"an exclamation", "as! go!d", false},

		{"a number is no word", "455 15 1515 15,515", false},
		{"an amount is no word", "$15 $$ $$$ !! !!! 5$", false},
		{"a model is no word", "A1 A55 5s B52 8008", false},
		{"a digit as it is", "I am number 1", true},
		{"a digit in a number", "11 18 1st 1.800", true}, // 1.800 is 1 and 800
		{"a digit within numbers", "11 18 1st 21", false},
		{"a number as it is", "88", true},
		{"a number within a number", "1888 188 884", false},
		{"a list of digits", "8, 8, 7", false},
		{"one letter and many digits", "b008", false},
		{"nothing but symbols", "@$$", false},

		{"diacritics", "spám ŝṗàm", true},
		{"combining characters", "s\u0336p\u0336a\u0336m\u0336", true},
		{"a word with an accent, written without", "cafe", true},
		{"a word with an accent, decomposed", "cafe\u0301", true},
		{"full width", "ｓｐａｍ", true},
		{"letters in circles, mathematics and superscript", "ⓢⓟⓐⓜ 𝐬𝐩𝐚𝐦 ˢᵖᵃᵐ", true},
		{"zero width between letters", "s\u200bp\u200da\u2060m", true},
		{"a soft hyphen", "sp\u00adam", true},
		{"a control character", "sp\x00am", true},
		{"zero width makes no border", "spam\u200bmer", false},
		{"sharp s", "STRASSE", true},
		{"final sigma", "ΣΟΦΌΣ", true},
		{"Cyrillic letters that look Latin", "sраm", true},
		{"a Cyrillic word that looks Latin", "асс", false}, // nothing in it is Latin
		{"Cyrillic as it is", "до", true},
		{"strokes", "ħell", true},

		{"a letter many times", "spaaaam", true},
		{"every letter many times", "ssspppaaammm", true},
		{"a letter many times, with digits", "sp4aa4m", true},
		{"a doubled letter many times", "assss", true},
		{"a doubled letter tells words apart", "good", false},
		{"a letter too few", "as", false},

		{"dots between letters", "s.p.a.m", true},
		{"spaces between letters", "buy s p a m here", true},
		{"hyphens between letters", "s-p-a-m", true},
		{"asterisks, underscores, slashes", "s*p*a*m", true},
		{"several separators", "s . p . a . m", true},
		{"separators and digits", "5 p 4 m", true},
		{"separators and symbols", "$ p @ m", true},
		{"behind a word of one letter", "a s p a m", true},
		{"before a word of one letter", "s p a m I say", true},
		{"too far apart", "s    p    a    m", false},
		{"a part of a longer spelled word", "s p a m m e r", false},
		{"the end of a longer spelled word", "p.a.s.s", false},
		{"the end of a longer spelled word, a vowel before", "p i a s s", false},
		{"two letters spelled out", "a. l.", false},
		{"numbers in a row", "4 5 5, 8 8", false},
		{"digits in a row", "4 5 5", false},

		{"two words", "a bad phrase", true},
		{"two words, obfuscated", "B4D\n phr@se", true},
		{"two words, joined by a hyphen", "bad-phrase", true},
		{"two words in one", "badphrase", false},
		{"one of two words", "bad", false},
		{"the second of two longer", "bad phrases", false},
		{"entry with a hyphen", "the f-bomb", true},
		{"entry with a hyphen, apart", "the f bomb", true},
		{"entry with a symbol", "I know c#.", true},
		{"entry with a symbol, without it", "I know c.", false},
		{"entry that is obfuscated is that", "sh!t", true},
		{"entry that is obfuscated is not what it stands for", "shit", false},
		{"an emoji", "hey🍆!", true},
		{"an emoji in a word", "a🍆b", true},
		{"a script without spaces", "这是垃圾信息", true},
		{"kana with a voice", "ばか", true},
		{"kana without a voice", "はか", false},
		{"nothing", "", false},
		{"not UTF-8", "\xff\xfe", false},
		{"not UTF-8, and a word", "\xffspam\xff", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, reason := set.review(c.text)
			if (reason == reasonWord) != c.found {
				t.Errorf("%q: found %v, want %v", c.text, reason == reasonWord, c.found)
			}
		})
	}
}

func TestWordsAreMasked(t *testing.T) {
	set := compiled(t, Rules{MaskWords: []string{"darn", "bad phrase", "x", "🍆", "ass"}})
	for _, c := range []struct{ name, text, want string }{
		{"nothing to mask", "Hello,  world\n", "Hello,  world\n"},
		{"one for each character", "oh darn it", "oh **** it"},
		{"every time", "darn, DARN", "****, ****"},
		{"as it was written", "d@rn daaarn", "**** ******"},
		{"code points, not bytes", "dárn ｄａｒｎ", "**** ****"},
		{"what is invisible within, too", "d\u200barn", "*****"},
		{"marks of the last letter, too", "darn\u0301!", "*****!"},
		{"zero width behind it is left", "darn\u200b!", "****\u200b!"},
		{"separators within, too", "d.a.r.n.", "*******."},
		{"two words and what is between", "a bad,  phrase.", "a ************."},
		{"a word that another masked one hid", "x d a r n", "* *******"},
		{"an emoji", "a🍆b", "a*b"},
		{"whole words only", "darned class", "darned class"},
		{"not UTF-8 is left", "\xff darn \xff", "\xff **** \xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, reason := set.review(c.text); got != c.want || reason != "" {
				t.Errorf("%q became %q (%s), want %q", c.text, got, reason, c.want)
			}
		})
	}
}

func TestRulesInTheirOrder(t *testing.T) {
	set := compiled(t, Rules{DenyWords: []string{"spam"}, MaskWords: []string{"darn"}, DenyLinks: true, MaxCaps: 0.5, MaxRepeats: 3})
	for _, c := range []struct{ name, text, content, reason string }{
		{"passes", "Hello there", "Hello there", ""},
		{"is masked", "darn, hello", "****, hello", ""},
		{"a word", "darn spam https://x", "", reasonWord},
		{"http", "see http://example.com", "", reasonLink},
		{"https in any case", "HtTpS://EXAMPLE.COM", "", reasonLink},
		{"www", "go to WWW.example.com", "", reasonLink},
		{"full width", "ｗｗｗ．example", "", reasonLink},
		{"zero width", "http:\u200b//example.com", "", reasonLink},
		{"a bare domain is none", "example.com", "example.com", ""},
		{"the end of an exclamation is none", "aww. sweet", "aww. sweet", ""},
		{"another scheme is none", "ftp://example.com", "ftp://example.com", ""},
		{"as many capitals as allowed", "ABCDefgh", "ABCDefgh", ""},
		{"one capital more", "ABCDEfgh", "", reasonCaps},
		{"capitals beyond ASCII", "ÄÖÜÉÀß12 abc", "", reasonCaps},
		{"a short text", "ABCDEFG 123", "ABCDEFG 123", ""},
		{"scripts without case", "你好你好你好你好你好", "你好你好你好你好你好", ""},
		{"as long a run as allowed", "aaab", "aaab", ""},
		{"a longer run", "aaaab", "", reasonRepeats},
		{"a run of symbols", "wow!!!!", "", reasonRepeats},
		{"a run with something invisible in it", "aa\u200baa", "", reasonRepeats},
		{"a run of emoji with their selector", "❤\ufe0f❤\ufe0f❤\ufe0f❤\ufe0f", "", reasonRepeats},
		{"a masked word makes no run", "darn", "****", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			content, reason := set.review(c.text)
			if content != c.content || reason != c.reason {
				t.Errorf("%q: got %q, %q, want %q, %q", c.text, content, reason, c.content, c.reason)
			}
		})
	}
	off := compiled(t, Rules{})
	const anything = "AAAAAAAAAAAA http://x spam"
	if content, reason := off.review(anything); content != anything || reason != "" {
		t.Errorf("rules that are off changed it to %q, %q", content, reason)
	}
}

func TestRulesThatCannotBeAreRefused(t *testing.T) {
	for _, r := range []Rules{
		{DenyWords: []string{"spam", ""}}, {MaskWords: []string{" - "}}, {DenyWords: []string{"\u200b"}},
		{MaxCaps: -0.1}, {MaxCaps: 1.1}, {MaxRepeats: -1},
	} {
		if _, err := r.compile(); err == nil {
			t.Errorf("%+v is accepted", r)
		} else {
			t.Log(err)
		}
	}
}

func FuzzRules(f *testing.F) {
	for _, text := range []string{"spam", "s.p.a.m", "x s p a m", "sp\u200bam", "a$$ 455", "bad, phrase", "ﬁ 垃圾ば\u3099🍆", "d\u0301arn\xff", "c# *", "x x x s p a m"} {
		f.Add(text, "spam\nass\nbad phrase\nx\n*")
	}
	f.Add("l1!|l ill 11", "ill\nlil\n1\nil")
	f.Fuzz(func(t *testing.T, text, list string) {
		if len(text) > 2000 || len(list) > 500 {
			return
		}
		var usable []string
		for entry := range strings.Lines(list) {
			if _, err := newWords([]string{entry}); err == nil {
				usable = append(usable, entry)
			}
		}
		if len(usable) == 0 {
			return
		}
		mask, deny := compiled(t, Rules{MaskWords: usable}), compiled(t, Rules{DenyWords: usable, DenyLinks: true, MaxCaps: 0.5, MaxRepeats: 5})
		masked, _ := mask.review(text)
		if got, want := utf8.RuneCountInString(masked), utf8.RuneCountInString(text); got != want {
			t.Fatalf("%q has %d code points, masked %q has %d", text, want, masked, got)
		}
		if again, _ := mask.review(masked); again != masked {
			t.Fatalf("%q was masked to %q and then to %q", text, masked, again)
		}
		was := []rune(text)
		for i, c := range []rune(masked) {
			if c != '*' && c != was[i] {
				t.Fatalf("%q became %q: code point %d is neither what it was nor masked", text, masked, i)
			}
		}
		if _, reason := deny.review(text); reason != reasonWord && masked != text {
			t.Fatalf("%q is masked to %q by words that do not deny it", text, masked)
		}
	})
}

// randomWords are n words of 4 to 9 letters, the same each time.
func randomWords(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]string, n)
	for i := range list {
		word := make([]byte, 4+r.IntN(6))
		for k := range word {
			word[k] = "etaoinshrdlucmfwypvbgkjqxz"[min(r.IntN(26), r.IntN(26))]
		}
		list[i] = string(word)
	}
	return list
}

// BenchmarkRules is a message of 500 code points against 1,000 words. "spelled"
// and "leet" are the worst readings: every character may begin a word.
func BenchmarkRules(b *testing.B) {
	list := randomWords(1000)
	set := compiled(b, Rules{DenyWords: list[:500], MaskWords: list[500:], DenyLinks: true, MaxCaps: 0.99, MaxRepeats: 500})
	cut := func(s string) string { return string([]rune(strings.Repeat(s, 500))[:500]) }
	for _, c := range []struct{ name, text string }{
		{"english", cut("The quick brown fox jumps over the lazy dog, and nobody minds at all! ")},
		{"russian", cut("Съешь же ещё этих мягких французских булок да выпей чаю. ")},
		{"chinese", cut("快速的棕色狐狸跳过懒狗")},
		{"emoji", cut("🎉❤\ufe0f🔥 ")},
		{"zalgo", cut("s\u0336\u0301p\u0336a\u0336m\u0336 ")},
		{"spelled", cut("a b c d e f g h i j k l ")},
		{"leet", cut("1!|$@0357")},
		{"same", cut("!")},
		{"masked", cut(list[700] + " is " + list[800] + " and ")},
	} {
		b.Run(fmt.Sprintf("text=%s", c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.review(c.text)
			}
		})
	}
}
